"""What the README shows works."""

import re
from pathlib import Path
from typing import Any

import msgspec

from postjournal.app import Application
from postjournal.core import messages as m
from postjournal.core.machine import Machine, ShardPlace

README = (Path(__file__).parents[2] / "README.md").read_text()


def sample() -> Application[Any, Any, Any]:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code.group(1), "README.md", "exec"), names)
    counter: Application[Any, Any, Any] = names["Counter"]()
    return counter


def test_the_sample_application_counts() -> None:
    machine: Machine[Any, Any, Any] = Machine(sample(), ShardPlace(0, 1), 10)
    commands = [{"type": "add", "id": str(n), "amount": amount} for n, amount in enumerate((2, 3))]
    commands.append({"type": "add", "id": "2", "amount": -1})
    rows: list[m.SourceRecord] = [
        (n, None, msgspec.json.encode(command)) for n, command in enumerate(commands)
    ]
    outcomes = machine.decide([("counter.commands", rows)], 0)
    assert [outcome.rejected for outcome in outcomes] == [None, None, "negative"]
    assert machine.state == {"total": 5}
    (totals,) = machine.outboxes["totals"].between(0, 9)
    told = [msgspec.json.decode(value) for value in totals.values]
    assert [(each["seq"], each["total"]) for each in told] == [(0, 2), (1, 5), (2, None)]
