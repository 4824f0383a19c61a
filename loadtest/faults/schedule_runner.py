"""Injects the faults of a schedule into a running system."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import msgspec

from loadtest.faults.injector import FaultInjector
from loadtest.faults.kinds import KINDS
from loadtest.faults.schedule import ScheduledFault
from loadtest.system import BenchSystem
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.status import fetch_states, find_leader

JOIN_TIMEOUT_S = 60.0
BY_NAME = {kind.name: kind for kind in KINDS}


class InjectedFault(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduled fault really did. `at_s`, `end_s`: since the load began.

    `victim`: the service or replica; `led`: shards that it led then; `missed`: why the fault was
    not injected, or None.
    """

    scheduled: ScheduledFault
    at_s: float
    end_s: float
    victim: str
    led: list[int]
    missed: str | None = None


class ScheduleRunner:
    """Injects each fault in a thread of its own, since they overlap.

    `injected`: the faults that have ended.
    """

    def __init__(self, system: BenchSystem, schedule: Sequence[ScheduledFault]) -> None:
        self._system, self._injector = system, FaultInjector(system)
        self._pending = list(schedule)
        self._active: dict[str, ScheduledFault] = {}
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._started_s = 0.0
        self.injected: list[InjectedFault] = []

    def start(self) -> None:
        self._started_s = time.monotonic()
        self._start_thread(threading.Thread(target=self._run, daemon=True, name="schedule"))

    def finish(self) -> None:
        """Inject no further fault, and heal the active ones."""
        self._stop.set()
        self._injector.heal_all()
        for thread in list(self._threads):
            thread.join(JOIN_TIMEOUT_S)

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def next(self) -> ScheduledFault | None:
        return self._pending[0] if self._pending else None

    @property
    def active(self) -> dict[str, ScheduledFault]:
        """The faults that have not ended yet, by victim."""
        return dict(self._active)

    def _start_thread(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while self._pending and not self._stop.wait(max(self._pending[0].at_s - self.now_s, 0)):
            fault = self._pending.pop(0)
            name = f"fault at {fault.at_s:g} s"
            self._start_thread(
                threading.Thread(target=self._inject, args=(fault,), daemon=True, name=name)
            )

    def _inject(self, scheduled: ScheduledFault) -> None:
        at_s, missed = self.now_s, None
        victim, led = scheduled.target, list[int]()
        try:
            victim, led, shard = self._resolve(scheduled.target)
            at_s = self.now_s
            self._active[victim] = scheduled
            self._injector.inject(
                BY_NAME[scheduled.kind].fault,
                victim,
                lasts_s=scheduled.lasts_s,
                delay_ms=scheduled.delay_ms,
                shard=shard,
            )
        except OperationFailed as error:
            missed = str(error)
        self._active.pop(victim, None)
        self.injected.append(
            InjectedFault(
                scheduled=scheduled,
                at_s=round(at_s, 3),
                end_s=round(self.now_s, 3),
                victim=victim,
                led=led,
                missed=missed,
            )
        )

    def _resolve(self, target: str) -> tuple[str, list[int], int]:
        """The replica or service, the shards that it leads, and the shard in the target's name.

        Raises `OperationFailed` if the target is the leader of a shard without one.
        """
        plan = self._system.plan
        role, _, shard = target.partition("/")
        if role != "leader" and role not in plan.replica_names:
            return target, [], 0
        answers = fetch_states(plan)
        leaders = [find_leader(answers, number) for number in range(plan.shards)]
        victim = leaders[int(shard)] if role == "leader" else target
        if victim is None:
            raise OperationFailed(f"shard {shard} has no leader")
        led = [number for number, leader in enumerate(leaders) if leader == victim]
        return victim, led, int(shard or 0)
