"""The demo's acts: what is done to the leader, and what is told of it."""

from __future__ import annotations

import threading
import time

from loadtest.bench_system import (
    Stage,
    is_settled,
    leader_of,
)
from loadtest.demo.board import Board
from loadtest.faults.harm import HANDOVER, KILL, PAUSE, Harm
from loadtest.stats import longest_gap
from loadtest.workload.load import Load
from postjournal.cli.coordinator import SnapshotRow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.status import ReplicaRow
from postjournal.cli.running_system import coordinator_of

CALM_S, PAUSE_S, WATCH_S = 4.0, 3.0, 2.0
PATIENCE_S = 60.0
SLACK = 1_000
"""Commands by which replicas may seem apart: they tell their place once a second."""

WHAT = {
    KILL: "SIGKILL to the leader",
    PAUSE: f"the leader is frozen for {PAUSE_S:g} s, as by a long garbage collection",
    HANDOVER: "the leader is asked to hand over",
}


class Play:
    """Act by act; each waits until the stage is complete again."""

    def __init__(self, stage: Stage, load: Load, shard: int, board: Board) -> None:
        """`load` is running."""
        self._stage, self._load, self._shard, self._board = stage, load, shard, board
        self._harm = Harm(stage)

    def run(self) -> None:
        """All of it."""
        self._board.announce("commands come in, results go out")
        self._board.wait(CALM_S)
        for how in (KILL, HANDOVER, PAUSE):
            self._act(how)
        self._snapshot()
        self._board.announce("the end; waiting for the last results")

    def _act(self, how: str) -> None:
        leader = leader_of(self._settled())
        known = len(self._load.failovers)
        self._board.announce(f"{WHAT[how]}, {self._board.name(leader.name)}")
        at_ns = time.monotonic_ns()
        harm = threading.Thread(target=self._harm.do, args=(how, leader, PAUSE_S))
        harm.start()
        while harm.is_alive():
            self._board.wait(0.1)
        self._board.wait(WATCH_S)
        self._tell(how, leader, at_ns, known)
        self._board.wait(CALM_S)

    def _tell(self, how: str, leader: ReplicaRow, at_ns: int, known: int) -> None:
        seen_ns = self._load.fresh_ns[self._shard]
        gap_ms = longest_gap(seen_ns, at_ns, time.monotonic_ns()).length / 1e6
        takeovers = [e for e in self._load.failovers[known:] if e.shard == self._shard]
        if not takeovers:
            self._board.tell(f"[yellow]{WHAT[how]}: nobody took over[/]")
            return
        first = takeovers[0]
        self._board.tell(
            f"[bold]{WHAT[how]}[/]: {self._board.name(leader.name)} → "
            f"[bold green]{self._board.name(first.leader)}[/]; {gap_ms:.0f} ms without a result "
            f"({first.cause}: detect {first.detect_ms:.0f}, claim {first.claim_ms:.0f}, "
            f"resume {first.resume_ms:.0f} ms)"
        )

    def _settled(self) -> list[ReplicaRow]:
        """One leader, all others standby: who was killed is back."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            rows = self._stage.rows(self._shard)
            if is_settled(rows, SLACK):
                return rows
            if time.monotonic() > deadline:
                stand = ", ".join(f"{row.name}: {row.state}" for row in rows)
                raise OperationFailed(f"the replicas do not come back ({stand})")
            self._board.announce("waiting until all replicas are back and in sync")
            self._board.wait(0.3)

    def _snapshot(self) -> None:
        self._settled()
        self._board.announce("a standby writes down the state, while it follows")
        client = coordinator_of(self._stage.system)
        identity, rows = client.ask(self._shard, allow_leader=False)
        deadline = time.monotonic() + PATIENCE_S
        while rows[0].state not in ("done", "failed") and time.monotonic() < deadline:
            self._board.wait(0.2)
            rows = client.snapshot(identity)
        self._board.tell(_told(rows[0], self._board.name(rows[0].replica)))


def _told(row: SnapshotRow, replica: str) -> str:
    if row.state != "done":
        return f"[yellow]no snapshot: {row.error or row.state}[/]"
    return (
        f"[bold]snapshot[/] of seq {row.seq:,}: {row.size or 0:,} bytes in "
        f"{row.duration_ms or 0:,} ms by {replica}"
    )
