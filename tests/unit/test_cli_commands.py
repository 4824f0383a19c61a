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
from postjournal.cli import running_system
from postjournal.cli.commands import replay
from postjournal.cli.commands.replay import progress_bar
from postjournal.cli.display.startup import StartupDisplay
from postjournal.cli.docker import engine
from postjournal.cli.errors import EXIT_CODES, OperationFailed
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.cli.local.readiness import StartupStep
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.log_file import LogFile
from postjournal.cli.main import main
from postjournal.core.reader import Bound

BENCHES = sorted(bench.commands)


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands read an empty state directory and find no Docker."""
    monkeypatch.setattr(LocalSystem.__init__, "__defaults__", (tmp_path,))
    monkeypatch.setattr(engine, "COMPOSE_FILE", tmp_path / "compose.yaml")
    assert running_system.default_system().layout.directory == tmp_path


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    "command",
    [
        *("status", "status --json", "kill leader", "pause replica-1", "resume x", "handover"),
        *("watch", "trace x", "snapshot", "snapshots --json"),
    ],
)
def test_without_a_running_system_the_error_names_the_command_that_starts_it(
    command: str,
) -> None:
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 3
    assert result.stderr == "Error: the system is not running: start it with `./postjournal up`\n"


@pytest.mark.usefixtures("nothing_runs")
def test_down_without_a_running_system_succeeds() -> None:
    result = CliRunner().invoke(main, ["down"])
    assert (result.exit_code, result.stdout) == (0, "nothing is running\n")


@pytest.mark.usefixtures("nothing_runs")
def test_without_logs_the_error_is_one_line() -> None:
    result = CliRunner().invoke(main, ["logs", "kafka"])
    assert result.exit_code == 3
    assert "there are no logs" in result.stderr


@pytest.mark.usefixtures("nothing_runs")
def test_up_with_docker_fails_without_a_compose_file() -> None:
    result = CliRunner().invoke(main, ["up", "--docker"])
    assert result.exit_code == 1
    assert "compose.yaml is missing" in result.stderr


@pytest.mark.parametrize(
    "command", ["up --replicas 0", "up --shards none", "kill", "handover --shard x", "nothing"]
)
def test_invalid_usage_is_exit_code_2(command: str) -> None:
    assert CliRunner().invoke(main, command.split()).exit_code == 2


def test_the_help_lists_the_exit_codes() -> None:
    help_text = CliRunner().invoke(main, ["--help"]).stdout
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(meaning[:20])}", help_text, re.MULTILINE)


def test_every_command_with_output_can_print_json() -> None:
    """Except those that run another program, or print one."""
    without = {
        "completion",
        "format",
        "lint",
        "load",
        "lock",
        "logs",
        "test",
        "down",
        "chaos",
        "demo",
    }
    for name in set(main.list_commands(click.Context(main))) - without:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        commands = command.commands.values() if isinstance(command, click.Group) else [command]
        for subcommand in commands:
            options = [option for param in subcommand.params for option in param.opts]
            assert "--json" in options, f"{name} {subcommand.name}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
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


def test_commands_options_and_replicas_are_completed() -> None:
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


def test_a_symbolic_link_to_the_launcher_runs_the_checkout_of_its_target(tmp_path: Path) -> None:
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


def test_without_a_terminal_each_step_is_one_plain_line() -> None:
    text = io.StringIO()
    with StartupDisplay(Console(file=text, highlight=False)) as display:
        display(StartupStep("kafka", "downloading: 1 jars"))
        display(StartupStep("kafka", "downloading: 2 jars"))
        display(StartupStep("kafka", "ready", ready=True))
        display(StartupStep("", "port 9092 of kafka is in use: using 20000"))
    assert text.getvalue().splitlines() == [
        "kafka: downloading",
        "kafka: ready",
        "port 9092 of kafka is in use: using 20000",
    ]


def test_on_a_terminal_the_last_state_stays_visible() -> None:
    text = io.StringIO()
    with StartupDisplay(Console(file=text, force_terminal=True, width=60)) as display:
        display(StartupStep("kafka", "starting"))
        display(StartupStep("kafka", "ready", ready=True))
    assert "✔ kafka" in text.getvalue()


def test_a_log_is_followed_across_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "replica-1.log"
    log = LogFile(path, "replica-1 | ")
    assert log.tail(5) == []
    path.write_text("one\ntwo\nthr")
    assert log.tail(1) == ["replica-1 | two"]
    path.write_text("one\ntwo\nthree\n")
    assert log.read_new() == ["replica-1 | three"]
    path.rename(tmp_path / "replica-1.log.1")
    path.write_text("a line in the new file\n")
    assert log.read_new() == ["replica-1 | a line in the new file"]


def test_a_replay_shows_its_progress_before_its_total_is_known() -> None:
    with progress_bar(quiet=False) as show:
        show(0, 10)


@pytest.fixture
def nothing_starts(nothing_runs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(LocalSystem, "_prepare", start)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("command", ["replay --export", *(f"bench {n} --output" for n in BENCHES)])
def test_a_file_that_cannot_be_written_is_reported_before_anything_starts(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "below" / "x.json")
    result = CliRunner().invoke(main, [*command.split(), path])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: cannot write {path}: ")


@pytest.mark.usefixtures("nothing_starts")
def test_a_bench_checks_that_its_default_report_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(options, "REPORTS", tmp_path / "file" / "bench")
    result = CliRunner().invoke(main, ["bench", "latency"])
    assert (result.exit_code, "use --output" in result.stderr) == (1, True)


@pytest.mark.usefixtures("nothing_starts")
def test_the_directory_of_an_export_is_created(tmp_path: Path) -> None:
    export = tmp_path / "new" / "state.json"
    assert CliRunner().invoke(main, ["replay", "--export", str(export)]).exit_code == 3
    assert export.parent.is_dir()


class Replayed(Exception):
    """Raised with the bound that a replay was called with."""


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
def test_each_option_of_a_replay_sets_its_bound(
    options: str, bound: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PointInTime:
        def replay(self, bound: Bound, _: object) -> None:
            raise Replayed(bound)

    monkeypatch.setattr(replay, "open_target_environment", lambda *_: nullcontext({}))
    monkeypatch.setattr(replay, "open_point_in_time", lambda *_: nullcontext(PointInTime()))
    result = CliRunner().invoke(main, ["replay", *options.split()])
    assert isinstance(result.exception, Replayed)
    assert result.exception.args == (bound,)


def all_commands(group: click.Group) -> Iterator[click.Command]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield from all_commands(command) if isinstance(command, click.Group) else [command]


def test_no_option_accepts_nan() -> None:
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
def test_a_soak_that_would_inject_no_fault_is_invalid_usage(
    minutes: float, every: float, least: float
) -> None:
    options = [f"--minutes={minutes}", f"--every={every}"]
    result = CliRunner().invoke(main, ["bench", "soak", *options], terminal_width=400)
    assert (result.exit_code, f"--minutes {least:g} is enough" in result.stderr) == (2, True)
    assert len(soak.fault_numbers(least, every)) == 1


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--until 7", "invalid journal position '7': use offset:N, seq:N or time:"),
        ("--until time:noon", "invalid time 'noon'"),
        ("--until-time noon", "invalid time 'noon'"),
        ("--until seq:1 --until-seq 1", "use one of --until, --until-offset, --until-seq and"),
        ("--until-offset 1 --until-time 1", "use one of --until, --until-offset, --until-seq and"),
    ],
)
def test_an_invalid_point_is_invalid_usage(options: str, message: str) -> None:
    result = CliRunner().invoke(main, ["replay", *options.split()], terminal_width=200)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


@pytest.mark.usefixtures("nothing_runs")
def test_asking_for_the_running_system_raises_when_none_runs() -> None:
    """`demo` and `up` decide by it whether they start one."""
    with pytest.raises(OperationFailed, match="not running"):
        running_system.running_system()
