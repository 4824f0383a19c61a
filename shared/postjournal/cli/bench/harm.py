"""What the benches do to replicas."""

from __future__ import annotations

import os
import signal
import time

import msgspec
from confluent_kafka import Producer

from postjournal.adapters import kafka_settings
from postjournal.cli.bench.system import Stage
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.status import ReplicaRow
from postjournal.status import Handover

KILL, PAUSE, HANDOVER = "kill", "pause", "handover"


class Harm:
    """Each method returns when it was done: (monotonic ns, ms since the Unix epoch).

    A pause lasts `pause_s` seconds and ends before the method returns.
    """

    def __init__(self, stage: Stage) -> None:
        """Connects now: a handover must not wait for a connection."""
        self._control = stage.topics.control
        config = kafka_settings.control_producer(stage.bootstrap) | {"log_level": 2}
        self._producer = Producer(config)
        self._producer.list_topics(self._control, timeout=10.0)

    def do(self, how: str, target: ReplicaRow, pause_s: float) -> tuple[int, int]:
        """One of kill, pause and handover."""
        if how == KILL:
            return self.kill(target)
        return self.pause(target, pause_s) if how == PAUSE else self.hand_over(target)

    def kill(self, target: ReplicaRow) -> tuple[int, int]:
        """SIGKILL."""
        done_at = _now()
        _signal(target, signal.SIGKILL)
        return done_at

    def pause(self, target: ReplicaRow, pause_s: float) -> tuple[int, int]:
        """SIGSTOP, and SIGCONT after `pause_s`."""
        done_at = _now()
        _signal(target, signal.SIGSTOP)
        try:
            time.sleep(pause_s)
        finally:
            _signal(target, signal.SIGCONT)
        return done_at

    def hand_over(self, target: ReplicaRow) -> tuple[int, int]:
        """Ask the leader to resign, as `./postjournal handover` does."""
        done_at = _now()
        request = Handover(shard=target.shard, time=done_at[1])
        value = msgspec.json.encode(request)
        self._producer.produce(self._control, value, partition=target.shard)
        self._producer.flush(5.0)
        return done_at


def _now() -> tuple[int, int]:
    return time.monotonic_ns(), time.time_ns() // 1_000_000


def _signal(target: ReplicaRow, number: signal.Signals) -> None:
    if target.pid is None:
        raise OperationFailed(f"{target.name} has no process")
    try:
        os.kill(target.pid, number)
    except ProcessLookupError as error:
        raise OperationFailed(f"{target.name} (pid {target.pid}) is gone already") from error
