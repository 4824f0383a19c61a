"""Injects faults into a running system, and heals them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from loadtest.faults import disk, replica_processes
from loadtest.faults.kinds import KAFKA, Fault
from loadtest.faults.proxied_system import ProxiedSystem
from loadtest.faults.proxy import Proxies
from loadtest.system import BenchSystem
from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.cli.docker.system import DockerSystem
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.readiness import storage_checks
from postjournal.cli.local.status import ReplicaRow
from postjournal.cluster.status import Handover
from postjournal.core.errors import JournalUnavailable

REVIVE_S = 3.0
"""A container that was killed is started again after as long as a local replica."""

BROKER_POLL_S = 0.2

LASTING = frozenset(
    (
        *(Fault.PAUSE, Fault.ENGINE_PAUSE, Fault.DISCONNECT),
        *(Fault.CUT, Fault.HANG, Fault.DELAY, Fault.DISK_FULL),
    )
)
KILLS = {
    Fault.PARENT_KILL: replica_processes.kill_parent,
    Fault.HTTP_KILL: replica_processes.kill_http,
}
ENGINE_SIGNALS = {
    Fault.ENGINE_KILL: signal.SIGKILL,
    Fault.ENGINE_ABORT: signal.SIGSEGV,
    Fault.ENGINE_PAUSE: signal.SIGSTOP,
}
Heal = Callable[[], None]


class Moment(NamedTuple):
    """One moment by two clocks; `unix_ms`: ms since the Unix epoch."""

    monotonic_ns: int
    unix_ms: int


class FaultInjector:
    """Faults in replicas and services, also several at once from several threads."""

    def __init__(self, system: BenchSystem) -> None:
        self._system, self._deployment = system, system.deployment
        self._control = ControlLog(system.kafka, system.topics.control)
        self._healing = threading.Event()

    def inject(
        self,
        fault: Fault,
        target: str,
        *,
        lasts_s: float = 0.0,
        delay_ms: int = 0,
        shard: int = 0,
    ) -> Moment:
        """Inject a fault; heal it after `lasts_s` seconds or at `heal_all`, if it is lasting.

        `target`: the replica or service; `delay_ms`: of DELAY; `shard`: of HANDOVER, and
        that of a single engine. A killed process is restarted by its supervisor, which is not
        waited for, except for the broker. Returns the moment before the fault; in containers it
        takes effect some 100 ms later. Raises `OperationFailed` when the fault cannot be injected.
        """
        moment = Moment(time.monotonic_ns(), time.time_ns() // 1_000_000)
        heal = self._begin(fault, target, delay_ms, shard)
        try:
            if fault in LASTING:
                self._healing.wait(lasts_s)
        finally:
            heal()
        return moment

    def heal_all(self) -> None:
        """End all faults now; the threads that injected them heal them."""
        self._healing.set()

    def _begin(self, fault: Fault, target: str, delay_ms: int, shard: int) -> Heal:
        """Inject a fault; return what heals it."""
        match fault:
            case Fault.KILL:
                return self._kill(target)
            case Fault.PAUSE:
                self._deployment.pause(target)
                return partial(self._resume, target)
            case Fault.RESTART:
                self._deployment.stop_replica(target)
                self._deployment.start_replica(target)
                return partial(self._wait_for_broker, target)
            case Fault.DISCONNECT:
                return self._disconnect(target)
            case Fault.CUT:
                self._proxies.cut(target)
                return partial(self._proxies.heal, target)
            case Fault.HANG:
                self._proxies.hang(target)
                return partial(self._proxies.heal, target)
            case Fault.DELAY:
                self._proxies.delay(target, delay_ms)
                return partial(self._proxies.heal, target)
            case Fault.HANDOVER:
                return self._hand_over(shard)
            case Fault.DISK_FULL:
                return self._fill_disks()
            case Fault.PARENT_KILL | Fault.HTTP_KILL:
                KILLS[fault](self._row(target, shard))
                return _nothing
            case Fault.ENGINE_KILL | Fault.ENGINE_ABORT | Fault.ENGINE_PAUSE:
                return self._signal_engine(fault, target, shard)

    def _kill(self, target: str) -> Heal:
        self._deployment.kill(target)
        if isinstance(self._deployment, DockerSystem):  # Docker does not restart what was killed
            threading.Timer(REVIVE_S, self._deployment.start_replica, (target,)).start()
        return partial(self._wait_for_broker, target)

    def _row(self, target: str, shard: int) -> ReplicaRow:
        row = next((row for row in self._system.rows(shard) if row.name == target), None)
        if row is None:
            raise OperationFailed(f"{target} has no shard {shard}")
        return row

    def _signal_engine(self, fault: Fault, target: str, shard: int) -> Heal:
        row = self._row(target, shard)
        self._deployment.signal_engine(row, ENGINE_SIGNALS[fault])
        return partial(self._resume_engine, row) if fault is Fault.ENGINE_PAUSE else _nothing

    def _resume_engine(self, row: ReplicaRow) -> None:
        with contextlib.suppress(OperationFailed):  # ended meanwhile
            self._deployment.signal_engine(row, signal.SIGCONT)

    def _resume(self, target: str) -> None:
        with contextlib.suppress(OperationFailed):  # killed meanwhile
            self._deployment.resume(target)

    def _wait_for_broker(self, target: str) -> None:
        """A broker that was stopped is faulty until it answers again."""
        if target != KAFKA:
            return
        answers = storage_checks(self._system.local.plan)[KAFKA]
        while not answers() and not self._healing.wait(BROKER_POLL_S):
            pass

    def _disconnect(self, target: str) -> Heal:
        deployment = self._deployment
        if not isinstance(deployment, DockerSystem):
            raise OperationFailed(
                f"{target} is a local process; only a container (`up --docker`) can be disconnected"
            )
        return partial(deployment.reconnect, deployment.disconnect(target))

    @property
    def _proxies(self) -> Proxies:
        deployment = self._deployment
        if not isinstance(deployment, ProxiedSystem) or deployment.proxies is None:
            raise OperationFailed("connections can be changed only in the system of a chaos run")
        return deployment.proxies

    def _hand_over(self, shard: int) -> Heal:
        try:
            self._control.append(Handover(shard=shard, time=time.time_ns() // 1_000_000))
        except JournalUnavailable as error:
            raise OperationFailed(f"the handover cannot be requested: {error}") from error
        return _nothing

    def _fill_disks(self) -> Heal:
        """For all replicas that run now; one that is started meanwhile can write."""
        self._on_all_replicas(disk.fill)
        threading.Thread(target=self._request_snapshots, daemon=True).start()
        return partial(self._on_all_replicas, disk.free)

    def _on_all_replicas(self, change: Callable[[int], None]) -> None:
        for row in self._system.status().replicas:
            if row.engine_pid is not None:
                change(row.engine_pid)

    def _request_snapshots(self) -> None:
        """A full disk is a fault only for what writes files."""
        client = self._system.coordinator()
        with contextlib.suppress(OperationFailed):  # it may have been killed just now
            client.request_snapshot(None, allow_leader=False)


def _nothing() -> None:
    """Heals a fault that heals itself."""
