"""The faults that the demo injects in the leader, and what it prints of each."""

from __future__ import annotations

import threading
import time

from loadtest.demo.display import Display
from loadtest.faults.injector import FaultInjector
from loadtest.faults.kinds import Fault
from loadtest.stats import longest_gap_ms
from loadtest.system import BenchSystem, leader_of, wait_until_settled
from loadtest.workload.load import Load
from postjournal.cli.coordinator import SnapshotRow
from postjournal.cli.local.status import ReplicaRow

CALM_S, PAUSE_S, WATCH_S = 4.0, 3.0, 2.0
SNAPSHOT_TIMEOUT_S = 60.0

DESCRIPTIONS = {
    Fault.KILL: "SIGKILL to the leader",
    Fault.HANDOVER: "a request to the leader to resign",
    Fault.PAUSE: f"the leader is paused for {PAUSE_S:g} s, as by a long garbage collection",
}


class Scenario:
    """One fault after the other; each waits until all replicas are in sync again."""

    def __init__(self, system: BenchSystem, load: Load, shard: int, display: Display) -> None:
        self._system, self._load, self._shard = system, load, shard
        self._display, self._injector = display, FaultInjector(system)

    def run(self) -> None:
        """Inject all faults, and take a snapshot."""
        self._display.show_activity("sending commands, receiving results")
        self._display.wait(CALM_S)
        for fault in DESCRIPTIONS:
            self._inject(fault)
        self._take_snapshot()
        self._display.show_activity("waiting for the last results")

    def _inject(self, fault: Fault) -> None:
        leader = leader_of(self._settled()).name
        known = len(self._load.failovers)
        self._display.show_activity(f"{DESCRIPTIONS[fault]}, {self._display.name(leader)}")
        at_ns = time.monotonic_ns()
        injection = threading.Thread(
            target=self._injector.inject,
            args=(fault, leader),
            kwargs={"lasts_s": PAUSE_S, "shard": self._shard},
        )
        injection.start()
        while injection.is_alive():
            self._display.wait(0.1)
        self._display.wait(WATCH_S)
        self._display.print_event(self._outcome(fault, leader, at_ns, known))
        self._display.wait(CALM_S)

    def _outcome(self, fault: Fault, leader: str, at_ns: int, known: int) -> str:
        seen_ns, name = self._load.seen_ns[self._shard], self._display.name
        gap_ms = longest_gap_ms(seen_ns, at_ns, time.monotonic_ns())
        takeovers = self._load.takeovers(self._shard, since=known)
        if not takeovers:
            return f"[yellow]{DESCRIPTIONS[fault]}: no replica took over[/]"
        first = takeovers[0]
        return (
            f"[bold]{DESCRIPTIONS[fault]}[/]: {name(leader)} → "
            f"[bold green]{name(first.leader)}[/]; {gap_ms:.0f} ms without a result "
            f"({first.cause}: detect {first.detect_ms:.0f}, claim {first.claim_ms:.0f}, "
            f"resume {first.resume_ms:.0f} ms)"
        )

    def _settled(self) -> list[ReplicaRow]:
        """Wait until one replica leads and all others are standbys, also one that was killed."""
        self._display.show_activity("waiting until all replicas are in sync")
        return wait_until_settled(self._system, self._shard, sleep=self._display.wait)

    def _take_snapshot(self) -> None:
        self._settled()
        self._display.show_activity("a standby takes a snapshot, while it follows")
        coordinator = self._system.coordinator()
        snapshot_id, rows = coordinator.request_snapshot(self._shard, allow_leader=False)
        deadline = time.monotonic() + SNAPSHOT_TIMEOUT_S
        while rows[0].state not in ("done", "failed") and time.monotonic() < deadline:
            self._display.wait(0.2)
            rows = coordinator.snapshot(snapshot_id)
        self._display.print_event(_describe(rows[0], self._display.name(rows[0].replica)))


def _describe(row: SnapshotRow, replica: str) -> str:
    if row.state != "done":
        return f"[yellow]no snapshot: {row.error or row.state}[/]"
    return (
        f"[bold]snapshot[/] of seq {row.seq:,}: {row.size or 0:,} bytes in "
        f"{row.duration_ms or 0:,} ms by {replica}"
    )
