from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from loadtest import options
from loadtest.bench import bench, soak
from postjournal.cli import running_system as modes
from postjournal.cli.commands import replay
from postjournal.cli.commands.checks import QUICK, SLOW, pytest_arguments
from postjournal.cli.commands.replay import progress_bar
from postjournal.cli.docker import engine
from postjournal.cli.errors import EXIT_CODES
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.cli.local.readiness import Progress
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.log_following import LogFile
from postjournal.cli.main import main
from postjournal.cli.progress import Reporter
from postjournal.core.reader import Bound

BENCHES = sorted(bench.commands)


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands look into an empty directory, and see no Docker."""
    monkeypatch.setattr(LocalSystem.__init__, "__defaults__", (tmp_path,))
    monkeypatch.setattr(engine, "COMPOSE_FILE", tmp_path / "compose.yaml")
    assert modes.default_system().layout.directory == tmp_path


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    "command",
    [
        *("status", "status --json", "kill leader", "pause replica-1", "resume x", "handover"),
        *("watch", "trace x", "snapshot", "snapshots --json"),
    ],
)
def test_what_needs_a_running_system_says_how_to_start_one(command: str) -> None:
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 3
    assert result.stderr == "Error: the system is not running: start it with `./postjournal up`\n"


@pytest.mark.usefixtures("nothing_runs")
def test_down_with_nothing_running_is_no_error() -> None:
    result = CliRunner().invoke(main, ["down"])
    assert (result.exit_code, result.stdout) == (0, "nothing is running\n")


@pytest.mark.usefixtures("nothing_runs")
def test_logs_of_nothing_is_one_clear_line() -> None:
    result = CliRunner().invoke(main, ["logs", "kafka"])
    assert result.exit_code == 3
    assert "there are no logs" in result.stderr


@pytest.mark.usefixtures("nothing_runs")
def test_up_with_docker_but_no_compose_file_is_refused() -> None:
    result = CliRunner().invoke(main, ["up", "--docker"])
    assert result.exit_code == 1
    assert "compose.yaml is missing" in result.stderr


@pytest.mark.parametrize(
    "command", ["up --replicas 0", "up --shards none", "kill", "handover --shard x", "nothing"]
)
def test_wrong_usage_is_exit_code_2(command: str) -> None:
    assert CliRunner().invoke(main, command.split()).exit_code == 2


def test_the_exit_codes_are_told_by_the_help() -> None:
    help_text = CliRunner().invoke(main, ["--help"]).stdout
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(meaning[:20])}", help_text, re.MULTILINE)


def test_every_command_that_answers_can_answer_programs() -> None:
    """But those that hand over to another program, or print one."""
    without = {"completion", "lint", "load", "logs", "test", "down", "chaos", "demo"}
    for name in set(main.list_commands(click.Context(main))) - without:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        commands = command.commands.values() if isinstance(command, click.Group) else [command]
        for each in commands:
            options = [option for param in each.params for option in param.opts]
            assert "--json" in options, f"{name} {each.name}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    assert f"_POSTJOURNAL_COMPLETE={shell}_complete" in script


def complete(*words: str) -> list[str]:
    environment = {
        "_POSTJOURNAL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("postjournal", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "postjournal.cli"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_options_and_names_are_completed() -> None:
    assert {"status", "snapshot", "snapshots"} <= set(complete("s"))
    assert complete("up", "--repl") == ["--replicas"]
    assert "leader" in complete("kill", "l")


BOOTSTRAP = """
import pathlib, sys
python = pathlib.Path(sys.argv[1], ".venv", "bin", "python")
python.parent.mkdir(parents=True)
python.write_text("#!/bin/sh\\necho $0 $*")
python.chmod(0o755)
"""


def test_a_link_to_the_launcher_starts_the_checkout_that_it_points_to(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    bootstrap = checkout / "shared" / "postjournal" / "cli" / "bootstrap.py"
    bootstrap.parent.mkdir(parents=True)
    bootstrap.write_text(BOOTSTRAP)
    shutil.copy(PROJECT_ROOT / "postjournal", checkout)
    for name in ("pyproject.toml", "requirements.txt"):
        (checkout / name).touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pj").symlink_to("../checkout/postjournal")
    (tmp_path / "pj").symlink_to("bin/pj")
    done = subprocess.run(
        ["./pj", "status"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{checkout.resolve()}/.venv/bin/python -m postjournal.cli status\n", (
        done.stderr
    )


def test_the_tests_run_from_quick_to_slow() -> None:
    assert pytest_arguments(quick=False, arguments=["-x"]) == [*QUICK, *SLOW, "-x"]
    assert pytest_arguments(quick=True, arguments=[]) == list(QUICK)


def test_named_tests_run_alone() -> None:
    named = ["tests/unit/test_cli_commands.py::test_named_tests_run_alone", "-v"]
    assert pytest_arguments(quick=False, arguments=named) == named


def test_off_a_terminal_progress_is_plain_lines_said_once() -> None:
    text = io.StringIO()
    with Reporter(Console(file=text, highlight=False)) as report:
        report(Progress("kafka", "fetching: 1 jars"))
        report(Progress("kafka", "fetching: 2 jars"))
        report(Progress("kafka", "ready", ready=True))
        report(Progress("", "port 9092 of kafka is taken: using 20000"))
    assert text.getvalue().splitlines() == [
        "kafka: fetching",
        "kafka: ready",
        "port 9092 of kafka is taken: using 20000",
    ]


def test_on_a_terminal_the_last_picture_stays() -> None:
    text = io.StringIO()
    with Reporter(Console(file=text, force_terminal=True, width=60)) as report:
        report(Progress("kafka", "starting"))
        report(Progress("kafka", "ready", ready=True))
    assert "✔ kafka" in text.getvalue()


def test_a_log_is_followed_over_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "replica-1.log"
    log = LogFile(path, "replica-1 | ")
    assert log.past(5) == []
    path.write_text("one\ntwo\nthr")
    assert log.past(1) == ["replica-1 | two"]
    path.write_text("one\ntwo\nthree\n")
    assert log.fresh() == ["replica-1 | three"]
    path.rename(tmp_path / "replica-1.log.1")
    path.write_text("a line in the new file\n")
    assert log.fresh() == ["replica-1 | a line in the new file"]


def test_a_replay_shows_its_progress_before_it_knows_how_far_it_goes() -> None:
    with progress_bar(quiet=False) as show:
        show(0, 10)


@pytest.fixture
def nothing_starts(nothing_runs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(LocalSystem, "_prepare", start)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("command", ["replay --export", *(f"bench {n} --output" for n in BENCHES)])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "below" / "x.json")
    result = CliRunner().invoke(main, [*command.split(), place])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {place} cannot be written: ")


@pytest.mark.usefixtures("nothing_starts")
def test_a_bench_checks_the_place_of_its_report_when_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(options, "REPORTS", tmp_path / "file" / "bench")
    result = CliRunner().invoke(main, ["bench", "latency"])
    assert (result.exit_code, "use --output" in result.stderr) == (1, True)


@pytest.mark.usefixtures("nothing_starts")
def test_the_directory_of_an_export_is_made(tmp_path: Path) -> None:
    export = tmp_path / "new" / "state.json"
    assert CliRunner().invoke(main, ["replay", "--export", str(export)]).exit_code == 3
    assert export.parent.is_dir()


class Replayed(Exception):
    """With how far it was to be read."""


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ("--until offset:7", Bound(offset=7)),
        ("--until seq:0", Bound(seq=0)),
        ("--until time:1970-01-01T00:00:02Z", Bound(time=2_000)),
        ("--until-offset 7", Bound(offset=7)),
        ("--until-seq 0", Bound(seq=0)),
        ("--until-time 2000", Bound(time=2_000)),
        ("", Bound()),
    ],
)
def test_a_replay_goes_as_far_as_it_is_told(
    options: str, bound: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PointInTime:
        def replay(self, bound: Bound, _: object) -> None:
            raise Replayed(bound)

    monkeypatch.setattr(replay, "environment_with", lambda *_: nullcontext({}))
    monkeypatch.setattr(replay, "open_point_in_time", lambda *_: nullcontext(PointInTime()))
    result = CliRunner().invoke(main, ["replay", *options.split()])
    assert isinstance(result.exception, Replayed)
    assert result.exception.args == (bound,)


def all_commands(group: click.Group) -> Iterator[click.Command]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield from all_commands(command) if isinstance(command, click.Group) else [command]


def test_no_option_takes_what_is_not_a_number_for_one() -> None:
    numbers = 0
    for command in all_commands(main):
        for param in command.params:
            if isinstance(param.type, click.types.FloatParamType):
                with pytest.raises(click.BadParameter):
                    param.type_cast_value(click.Context(command), "nan")
                numbers += 1
    assert numbers > 10


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("minutes", "every", "least"), [(0.1, 10.0, 0.34), (19.9, 600.0, 20.0), (0.1, 5.4, 0.18)]
)
def test_a_soak_in_which_nothing_would_be_harmed_is_wrong_usage(
    minutes: float, every: float, least: float
) -> None:
    options = [f"--minutes={minutes}", f"--every={every}"]
    result = CliRunner().invoke(main, ["bench", "soak", *options], terminal_width=400)
    assert (result.exit_code, f"--minutes {least:g} is enough" in result.stderr) == (2, True)
    assert len(soak.fault_numbers(least, every)) == 1


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--until 7", "invalid journal position '7': use offset:N, seq:N or time:"),
        ("--until time:noon", "invalid time 'noon'"),
        ("--until-time noon", "invalid time 'noon'"),
        ("--until seq:1 --until-seq 1", "one of --until, --until-offset, --until-seq and"),
        ("--until-offset 1 --until-time 1", "one of --until, --until-offset, --until-seq and"),
    ],
)
def test_a_point_that_cannot_be_understood_is_wrong_usage(options: str, why: str) -> None:
    result = CliRunner().invoke(main, ["replay", *options.split()], terminal_width=200)
    assert (result.exit_code, why in result.stderr) == (2, True), result.stderr
