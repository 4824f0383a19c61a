"""`kill`, `pause` and `resume` with `--engine`, on processes that stand for a shard's engine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from postjournal.cli.commands import faults
from postjournal.cli.main import main
from tests.support.idle_system import OneReplica, process_of


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneReplica:
    """The running system; its replica leads shard 1."""
    found = OneReplica(tmp_path)
    monkeypatch.setattr(faults, "running_system", lambda: found)
    return found


def run(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def test_the_engine_of_a_shards_leader_is_killed(system: OneReplica) -> None:
    with process_of("t") as engine:
        system.engine = engine.pid
        result = run("kill leader --engine --shard 1")
        assert engine.wait(10) == -signal.SIGKILL
    assert result.stdout == f"killed the engine of shard 1 of replica-1 (pid {engine.pid})\n"


def test_an_engine_is_paused_and_resumed_with_the_command_that_pause_prints(
    system: OneReplica,
) -> None:
    with process_of("t") as engine:
        system.engine = engine.pid
        paused = run("pause replica-1 --engine --shard 1")
        os.waitid(os.P_PID, engine.pid, os.WSTOPPED | os.WNOWAIT)
        _, _, command = paused.stdout.strip().partition("resume it with ./postjournal ")
        assert run(command).stdout.startswith("resumed the engine of shard 1 of replica-1")
        os.waitid(os.P_PID, engine.pid, os.WCONTINUED | os.WNOWAIT)


def test_the_json_names_the_replica_and_the_process(system: OneReplica) -> None:
    with process_of("t") as engine:
        system.engine = engine.pid
        printed = json.loads(run("kill replica-1 --engine --shard 1 --json").stdout)
    done = "killed the engine of shard 1 of"
    assert printed == {"replica": "replica-1", "done": done, "process": engine.pid}


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("command", ["kill", "pause", "resume"])
def test_without_a_running_engine_the_error_names_replica_and_shard(command: str) -> None:
    result = run(f"{command} replica-1 --engine --shard 1")
    assert result.exit_code == 1
    expected = "Error: replica-1 has no engine of shard 1 now; see `./postjournal status`\n"
    assert result.stderr == expected


def test_an_engine_that_ended_after_its_report_is_not_running(system: OneReplica) -> None:
    with process_of("t") as engine:
        system.engine = engine.pid
        engine.kill()
        engine.wait(10)
    assert "has no engine of shard 1 now" in run("kill replica-1 --engine --shard 1").stderr


def test_a_pid_that_another_program_has_now_is_not_signaled(system: OneReplica) -> None:
    with process_of("of another system") as other:
        system.engine = other.pid
        assert run("kill replica-1 --engine --shard 1").exit_code == 1
        assert other.poll() is None


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("arguments", "exit_code", "why"),
    [
        ("replica-1 --engine", 3, "replica-1 has no shard 0"),
        ("replica-1 --engine --shard 7", 3, "replica-1 has no shard 7"),
        ("leader --engine --shard 7", 1, "shard 7 has no leader now"),
        ("replica-9 --engine --shard 1", 3, "there is no replica 'replica-9'"),
    ],
)
def test_a_shard_or_replica_that_does_not_exist_is_reported(
    arguments: str, exit_code: int, why: str
) -> None:
    result = run(f"kill {arguments}")
    assert (result.exit_code, why in result.stderr) == (exit_code, True), result.stderr
