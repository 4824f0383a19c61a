"""Faults of single processes of a replica, on processes that stand for them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest

from loadtest.faults.injector import FaultInjector
from loadtest.faults.kinds import Fault
from loadtest.system import started
from postjournal.cli.errors import OperationFailed
from tests.support.idle_system import OneReplica, process_of

PARENT = """
import subprocess, sys
command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
children = [
    subprocess.Popen([*command, module], stdin=subprocess.PIPE)
    for module in ("services.replica.engine", "services.replica.http_process")
]
print(*(child.pid for child in children), flush=True)
for child in reversed(children):
    print(child.wait(), flush=True)
    child.stdin.close()
"""


@contextmanager
def one_replica(directory: Path) -> Iterator[tuple[FaultInjector, OneReplica]]:
    deployment = OneReplica(directory / "system")
    with started(deployment, lambda _: deployment.layout.create()) as system:
        yield FaultInjector(system), deployment


@pytest.mark.parametrize(
    ("fault", "number"),
    [(Fault.ENGINE_KILL, signal.SIGKILL), (Fault.ENGINE_ABORT, signal.SIGSEGV)],
)
def test_a_fault_of_an_engine_is_a_signal_to_its_process(
    tmp_path: Path, fault: Fault, number: signal.Signals
) -> None:
    with one_replica(tmp_path) as (injector, system), process_of("t") as engine:
        system.engine = engine.pid
        injector.inject(fault, "replica-1", shard=1)
        assert engine.wait(10) == -number


def test_a_paused_engine_is_resumed_when_the_fault_is_healed(tmp_path: Path) -> None:
    with one_replica(tmp_path) as (injector, system), process_of("t") as engine:
        system.engine = engine.pid
        pausing = threading.Thread(
            target=injector.inject,
            args=(Fault.ENGINE_PAUSE, "replica-1"),
            kwargs={"lasts_s": 60.0, "shard": 1},
        )
        pausing.start()
        os.waitid(os.P_PID, engine.pid, os.WSTOPPED | os.WNOWAIT)
        injector.heal_all()
        pausing.join()
        os.waitid(os.P_PID, engine.pid, os.WCONTINUED | os.WNOWAIT)


def test_a_paused_engine_that_its_replica_has_ended_is_healed(tmp_path: Path) -> None:
    with one_replica(tmp_path) as (injector, system), process_of("t") as engine:
        system.engine = engine.pid
        pausing = threading.Thread(
            target=injector.inject,
            args=(Fault.ENGINE_PAUSE, "replica-1"),
            kwargs={"lasts_s": 60.0, "shard": 1},
        )
        pausing.start()
        os.waitid(os.P_PID, engine.pid, os.WSTOPPED | os.WNOWAIT)
        engine.kill()
        assert engine.wait(10) == -signal.SIGKILL
        injector.heal_all()
        pausing.join()


def test_a_process_of_another_system_is_never_signaled(tmp_path: Path) -> None:
    with one_replica(tmp_path) as (injector, system), process_of("of another system") as other:
        system.engine = other.pid
        with pytest.raises(OperationFailed, match="no engine of shard 1 now"):
            injector.inject(Fault.ENGINE_KILL, "replica-1", shard=1)
        assert other.poll() is None


def test_only_the_http_process_of_a_replica_is_killed_and_only_its_main_process(
    tmp_path: Path,
) -> None:
    with (
        one_replica(tmp_path) as (injector, system),
        Popen([sys.executable, "-c", PARENT], stdout=PIPE, text=True) as replica,
        ExitStack() as ends,
    ):
        ends.callback(replica.kill)  # also when the test fails: its end would be waited for
        assert replica.stdout is not None
        children = [int(pid) for pid in replica.stdout.readline().split()]
        system.replica = replica.pid
        injector.inject(Fault.HTTP_KILL, "replica-1", shard=1)
        assert replica.stdout.readline() == "-9\n"
        assert psutil.pid_exists(children[0])
        injector.inject(Fault.PARENT_KILL, "replica-1", shard=1)
        assert replica.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("fault", "shard", "why"),
    [
        (Fault.ENGINE_KILL, 1, "replica-1 has no engine of shard 1 now"),
        (Fault.ENGINE_KILL, 7, "replica-1 has no shard 7"),
        (Fault.HTTP_KILL, 1, "replica-1 is not a running local replica"),
        (Fault.PARENT_KILL, 1, "replica-1 is not a running local replica"),
    ],
)
def test_a_fault_of_a_process_that_is_not_running_is_not_injected(
    tmp_path: Path, fault: Fault, shard: int, why: str
) -> None:
    with (
        one_replica(tmp_path) as (injector, _),
        pytest.raises(OperationFailed, match=why),
    ):
        injector.inject(fault, "replica-1", shard=shard)
