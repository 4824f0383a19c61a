"""Carries out a schedule on a running system."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from loadtest.bench_system import Stage
from loadtest.faults import disk
from loadtest.faults.harm import Harm
from loadtest.faults.schedule import (
    COORDINATOR,
    GATEWAY,
    KAFKA,
    REDIS,
    STORE,
    Strike,
)
from loadtest.faults.system import ChaosSystem
from postjournal.cli.coordinator import CoordinatorClient
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.readiness import storage_checks
from postjournal.cli.local.status import fetch_states, find_leader

JOIN_S = 60.0
POLL_S = 0.2


class Blow(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a strike. `at_s`, `end_s`: since the load began, as it really was.

    `victim`: the service; `led`: shards that it led then; `missed`: why nothing was done.
    """

    strike: Strike
    at_s: float
    end_s: float
    victim: str
    led: list[int]
    missed: str | None = None


class Striker:
    """Each strike in a thread of its own, since they overlap."""

    def __init__(self, stage: Stage, strikes: Sequence[Strike], end_s: float) -> None:
        """Connects now; nothing is done before `start`, and nothing is awaited after `end_s`."""
        assert isinstance(stage.system, ChaosSystem)
        assert stage.system.proxies is not None
        self._system, self._plan = stage.local, stage.local.plan
        self._proxies = stage.system.proxies
        self._harm = Harm(stage)
        self._strikes, self._end_s = list(strikes), end_s
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._begun_s = 0.0
        self.blows: list[Blow] = []
        self.under_way: dict[str, Strike] = {}

    def start(self) -> None:
        """Time begins."""
        self._begun_s = time.monotonic()
        thread = threading.Thread(target=self._run, daemon=True, name="striker")
        self._threads.append(thread)
        thread.start()

    def finish(self) -> None:
        """No further strike; those under way end now, and nothing stays harmed."""
        self._stop.set()
        for thread in self._threads:
            thread.join(JOIN_S)
        self._proxies.mend_all()

    @property
    def now_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self._begun_s

    @property
    def next(self) -> Strike | None:
        """The next one."""
        return self._strikes[0] if self._strikes else None

    def _run(self) -> None:
        while self._strikes and not self._stop.wait(max(self._strikes[0].at_s - self.now_s, 0)):
            strike = self._strikes.pop(0)
            name = f"strike at {strike.at_s:g} s"
            thread = threading.Thread(target=self._strike, args=(strike,), daemon=True, name=name)
            self._threads.append(thread)
            thread.start()

    def _strike(self, strike: Strike) -> None:
        at_s, missed = self.now_s, None
        victim, led = strike.target, list[int]()
        try:
            victim, led = self._aim(strike)
            at_s = self.now_s
            self.under_way[victim] = strike
            self._carry_out(strike, victim)
        except OperationFailed as error:
            missed = str(error)
        self.under_way.pop(victim, None)
        blow = Blow(
            strike=strike,
            at_s=round(at_s, 3),
            end_s=round(self.now_s, 3),
            victim=victim,
            led=led,
            missed=missed,
        )
        self.blows.append(blow)

    def _aim(self, strike: Strike) -> tuple[str, list[int]]:
        """Who is meant, and the shards that it leads. Raises `OperationFailed`."""
        if strike.target in (KAFKA, REDIS, GATEWAY, COORDINATOR, STORE):
            return strike.target, []
        answers = fetch_states(self._plan)
        leaders = [find_leader(answers, shard) for shard in range(self._plan.shards)]
        victim: str | None = strike.target
        if strike.target.startswith("leader/"):
            victim = leaders[int(strike.target.partition("/")[2])]
        if victim is None:
            raise OperationFailed("nobody leads")
        return victim, [shard for shard, leader in enumerate(leaders) if leader == victim]

    def _carry_out(self, strike: Strike, victim: str) -> None:
        if strike.kind.endswith("kill"):
            self._system.kill(victim)
            self._wait_until_back(victim)
        elif strike.kind.endswith("pause"):
            self._system.pause(victim)
            self._for(strike, lambda: self._resume(victim))
        elif strike.kind == "broker-restart":
            self._system.stop_replica(victim)
            self._system.start_replica(victim)
            self._wait_until_back(victim)
        elif strike.kind == "handover":
            self._hand_over(victim)
        elif strike.kind == "disk-full":
            self._on_all(disk.fill)
            threading.Thread(target=self._ask_for_snapshots, daemon=True).start()
            self._for(strike, lambda: self._on_all(disk.free))
        elif strike.kind == "cut":
            self._proxies.cut(victim)
            self._for(strike, lambda: self._proxies.mend(victim))
        elif strike.kind == "hang":
            self._proxies.hang(victim)
            self._for(strike, lambda: self._proxies.mend(victim))
        else:
            assert strike.kind == "delay"
            self._proxies.slow(victim, strike.delay_ms)
            self._for(strike, lambda: self._proxies.mend(victim))

    def _for(self, strike: Strike, mend: Callable[[], None]) -> None:
        """Whatever happens, it is mended."""
        try:
            self._stop.wait(strike.lasts_s)
        finally:
            mend()

    def _on_all(self, change: Callable[[int], None]) -> None:
        """Each replica's process; one that starts meanwhile is as it should be."""
        for row in self._system.status().replicas:
            if row.pid is not None:
                change(row.pid)

    def _ask_for_snapshots(self) -> None:
        """A full disk harms nobody but who writes."""
        client = CoordinatorClient(self._plan.url("coordinator"))
        with contextlib.suppress(OperationFailed):  # it may have been killed just now
            client.request_snapshot(None, allow_leader=False)

    def _wait_until_back(self, victim: str) -> None:
        """A broker that was ended is harmed until it answers again."""
        if victim != KAFKA:
            return
        answers = storage_checks(self._plan)[KAFKA]
        while not answers() and self.now_s < self._end_s:
            time.sleep(POLL_S)

    def _resume(self, victim: str) -> None:
        with contextlib.suppress(OperationFailed):  # killed meanwhile
            self._system.resume(victim)

    def _hand_over(self, victim: str) -> None:
        rows = [row for row in self._system.status().replicas if row.name == victim]
        for row in rows:
            if row.state == "leader":
                self._harm.hand_over(row)
                return
        raise OperationFailed(f"{victim} leads no longer")
