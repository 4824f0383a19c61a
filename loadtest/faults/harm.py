"""What the benches do to replicas."""

from __future__ import annotations

import os
import signal
import threading
import time

import msgspec

from loadtest.bench_system import Stage
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.producer import RecordProducer
from postjournal.cli.docker import engine
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.status import ReplicaRow
from postjournal.cluster.status import Handover

KILL, PAUSE, HANDOVER, DISCONNECT = "kill", "pause", "handover", "disconnect"

REVIVE_S = 3.0
"""A container that was killed is started again after so long, as local replicas are."""


class Harm:
    """Each method returns when it was done: (monotonic ns, ms since the Unix epoch).

    A pause lasts `pause_s` seconds and ends before the method returns; so does a disconnection,
    which only containers know. What is done to a container takes Docker some tens of ms.
    """

    def __init__(self, stage: Stage) -> None:
        """Connects now: a handover must not wait for a connection."""
        self._docker = stage.system if isinstance(stage.system, DockerSystem) else None
        self._control = stage.topics.control
        self._producer = RecordProducer(kafka_settings.control_producer(stage.kafka))
        self._producer.partition_count(self._control, 10.0)

    def do(self, how: str, target: ReplicaRow, pause_s: float) -> tuple[int, int]:
        """One of kill, pause, handover and disconnect."""
        if how == KILL:
            return self.kill(target)
        if how == PAUSE:
            return self.pause(target, pause_s)
        return self.disconnect(target, pause_s) if how == DISCONNECT else self.hand_over(target)

    def kill(self, target: ReplicaRow) -> tuple[int, int]:
        """SIGKILL; or `docker kill`, and `docker start` after some seconds."""
        done_at = _now()
        if target.container is None:
            _signal(target, signal.SIGKILL)
        else:
            engine.run("kill", target.container)
            threading.Timer(REVIVE_S, engine.run, ("start", target.container)).start()
        return done_at

    def pause(self, target: ReplicaRow, pause_s: float) -> tuple[int, int]:
        """SIGSTOP, and SIGCONT after `pause_s`; or `docker pause` and `unpause`."""
        done_at = _now()
        _freeze(target)
        try:
            time.sleep(pause_s)
        finally:
            _thaw(target)
        return done_at

    def disconnect(self, target: ReplicaRow, pause_s: float) -> tuple[int, int]:
        """`docker network disconnect` of all networks, and `connect` after `pause_s`."""
        if self._docker is None:
            raise OperationFailed("only a container can be cut off its network: `up --docker`")
        done_at = _now()
        cut_off = self._docker.disconnect(target.name)
        try:
            time.sleep(pause_s)
        finally:
            self._docker.reconnect(cut_off)
        return done_at

    def hand_over(self, target: ReplicaRow) -> tuple[int, int]:
        """Ask the leader to resign, as `./postjournal handover` does."""
        done_at = _now()
        request = Handover(shard=target.shard, time=done_at[1])
        value = msgspec.json.encode(request)
        self._producer.send(self._control, value, partition=target.shard)
        self._producer.flush(5.0)
        return done_at


def _now() -> tuple[int, int]:
    return time.monotonic_ns(), time.time_ns() // 1_000_000


def _freeze(target: ReplicaRow) -> None:
    if target.container is None:
        _signal(target, signal.SIGSTOP)
    else:
        engine.run("pause", target.container)


def _thaw(target: ReplicaRow) -> None:
    if target.container is None:
        _signal(target, signal.SIGCONT)
    else:
        engine.run("unpause", target.container)


def _signal(target: ReplicaRow, number: signal.Signals) -> None:
    if target.pid is None:
        raise OperationFailed(f"{target.name} has no process")
    try:
        os.kill(target.pid, number)
    except ProcessLookupError as error:
        raise OperationFailed(f"{target.name} (pid {target.pid}) is gone already") from error
