"""What the documents say is so. Their commands are run by tests/e2e/test_documents.py."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from postjournal.app import Application
from postjournal.cli.main import main
from postjournal.core.records import SourceRecord
from postjournal.core.sharding import ShardPlace
from postjournal.core.state.state_machine import StateMachine
from tests.simulation.scenarios import SCENARIOS
from tests.support.documents import DOCUMENTS, ROOT, anchors, blocks, commands, links

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def sample() -> Application[Any, Any, Any]:
    code = blocks(ROOT / "docs" / "applications.md", "python")[0]
    names: dict[str, Any] = {"__name__": "sample"}
    exec(compile(code, "applications.md", "exec"), names)
    counter: Application[Any, Any, Any] = names["Counter"]()
    return counter


def test_the_sample_application_counts() -> None:
    machine: StateMachine[Any, Any, Any] = StateMachine(sample(), ShardPlace(0, 1), 10)
    commands = [{"type": "add", "id": str(n), "amount": amount} for n, amount in enumerate((2, 3))]
    commands.append({"type": "add", "id": "2", "amount": -1})
    rows: list[SourceRecord] = [
        (n, None, msgspec.json.encode(command)) for n, command in enumerate(commands)
    ]
    outcomes = machine.decide([("counter.commands", rows)], 0)
    assert [outcome.rejected for outcome in outcomes] == [None, None, "negative"]
    assert machine.state == {"total": 5}
    (totals,) = machine.outboxes["totals"].between(0, 9)
    told = [msgspec.json.decode(value) for value in totals.values]
    assert [(each["seq"], each["total"]) for each in told] == [(0, 2), (1, 5), (2, None)]


@every_document
def test_what_it_points_to_is_there(document: Path) -> None:
    for link in links(document):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_document
def test_its_commands_and_their_options_exist(document: Path) -> None:
    for line in commands(document):
        check(main, shlex.split(line), line)


@every_document
def test_what_it_shows_deletes_no_data_and_leaves_no_variable_behind(document: Path) -> None:
    for block in blocks(document, "sh"):
        assert not re.search(r"--wipe|--volumes|^ *export ", block, re.MULTILINE)


def check(command: click.Command, words: list[str], line: str) -> None:
    """Parse, without running; words in capitals and an ellipsis stand for something."""
    words = [re.sub(r"^[A-Z]+$", "1", word) for word in words if word != "…"]
    if isinstance(command, click.Group):
        if words and words[0] != "1":
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, line
            check(found, words[1:], line)
        return
    try:
        command.make_context(command.name, words)
    except click.MissingParameter:
        pass  # the command is only named
    except click.exceptions.Exit:
        pass  # --help
    except click.ClickException as error:
        raise AssertionError(f"{line}: {error.message}") from error


def test_the_attacks_are_scenarios_that_are_run() -> None:
    protocol = (ROOT / "docs" / "protocol.md").read_text()
    named = re.findall(r"^\|.*\| `(\w+)` \|$", protocol, re.MULTILINE)
    assert len(named) > 10
    assert set(named) <= set(SCENARIOS)
