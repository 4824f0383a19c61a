"""`bench recovery`: how long a replica takes until it is in sync, without and with a snapshot."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from itertools import islice

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.frame import BenchReport, BenchRun, bench_frame
from loadtest.bench.tables import plain_table
from loadtest.options import accounts_option, number_option
from loadtest.progress import print_line, show_status, step
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.waiting import wait_for
from loadtest.workload.preload import Transfers, preload
from loadtest.workload.snapshots import (
    COORDINATOR,
    request_snapshot,
    wait_for_snapshot,
)
from postjournal.cli.coordinator import SnapshotRow
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.status import fetch_state
from postjournal.cli.local.supervisor import Supervisor
from postjournal.cluster.status import ReplicaStatus

SHARD = 0
LEADER, OTHER = "replica-1", "replica-2"
POLL_S = 0.02
TIMEOUT_S = 300.0


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a replica; times in s, since its process was started.

    `seen_s`: its HTTP server answered first; `open_s`: it began to read the journal (the
    snapshot, if any, was restored); `in_sync_s`: it was standby. `commands`: how many it read in
    the journal; `commands_per_s`: between `open_s` and `in_sync_s`. `digest_equal`: its digest
    was the leader's.
    """

    what: str
    journal_commands: int
    commands: int
    seen_s: float
    open_s: float
    in_sync_s: float
    commands_per_s: float
    digest_equal: bool


class RecoveryReport(BenchReport, frozen=True, kw_only=True, tag="recovery"):
    """`snapshots`: those that were restored, in that order."""

    accounts: int
    commands: int
    tail: int
    recoveries: list[Recovery]
    snapshots: list[SnapshotRow]

    def tables(self) -> Sequence[RenderableType]:
        first, *numeric = "recovery of a standby from", "journal", "read", "up", "restored"
        table = plain_table(first, *numeric, "in sync", "commands/s")
        for recovery in self.recoveries:
            table.add_row(
                recovery.what,
                f"{recovery.journal_commands:,}",
                f"{recovery.commands:,}",
                f"{recovery.seen_s:.2f} s",
                f"{recovery.open_s:.2f} s",
                f"{recovery.in_sync_s:.2f} s",
                f"{recovery.commands_per_s:,.0f}",
            )
        return [
            f"[bold]{self.commands:,} commands in the journal[/], {self.accounts:,} accounts; "
            "times from the start of the process",
            table,
        ]

    def failures(self) -> list[str]:
        is_equal = all(recovery.digest_equal for recovery in self.recoveries)
        return [] if is_equal else ["digests differ"]


@click.command("recovery")
@number_option(
    "--commands", click.IntRange(10_000, 50_000_000), 5_000_000, "In the journal at the end."
)
@number_option("--tail", click.IntRange(1_000, 5_000_000), 50_000, "Commands after the snapshot.")
@accounts_option
@bench_frame(attachable=False)
def bench_recovery(run: BenchRun, *, commands: int, tail: int, accounts: int) -> RecoveryReport:
    """Measure how fast a replica comes back.

    A journal of a tenth of the commands, then of all of them: at both lengths a standby is
    started from a snapshot and a tail, and at the full length from the journal alone. The time
    counts from the start of its process.
    """
    transfers = run.transfers(accounts, commands - 2 * accounts)
    system = run.start_storage(2)
    recoveries, snapshots = _Run(system, transfers, tail).run()
    return RecoveryReport(
        machine=run.machine,
        accounts=accounts,
        commands=commands,
        tail=tail,
        recoveries=recoveries,
        snapshots=snapshots,
    )


class _Run:
    def __init__(self, system: BenchSystem, transfers: Transfers, tail: int) -> None:
        self._system, self._tail = system, tail
        self._count = len(transfers)
        self._values = transfers.values()
        self._loaded = 0
        self._supervisor = Supervisor(system.local.plan.socket)

    def run(self) -> tuple[list[Recovery], list[SnapshotRow]]:
        self._supervisor.start(SERVICES, LEADER)
        self._wait_for(LEADER, lambda status: status.state == "leader")
        self._supervisor.start(SERVICES, OTHER)
        self._supervisor.start(SERVICES, COORDINATOR)
        snapshots, recoveries = [], []
        for length in (self._count // 10, self._count):
            self._fill(length - self._tail)
            snapshots.append(self._take_snapshot())
            self._fill(length)
            what = f"a snapshot and {self._tail:,} commands"
            recoveries.append(self._recover(what, snapshots[-1]))
        return [self._recover("the whole journal", None), *recoveries], snapshots

    def _fill(self, end: int) -> None:
        """Append commands to the feed until both replicas have applied `end` in total."""
        with step(f"{end:,} commands into the journal"):
            values = islice(self._values, end - self._loaded)
            preload(self._system.kafka, self._system.feed_topic, SHARD, values)
            self._loaded = end
            for name in (LEADER, OTHER):
                self._wait_for(name, lambda status: status.seq >= end)
        wait_until_settled(self._system, SHARD, same_seq=True)

    def _take_snapshot(self) -> SnapshotRow:
        coordinator = self._system.coordinator()
        with step("taking a snapshot"):
            requested = request_snapshot(coordinator, SHARD)
            row = wait_for_snapshot(coordinator, requested.id)
        print_line(f"snapshot at seq {row.seq}: {row.size} bytes in {row.duration_ms} ms")
        return row

    def _recover(self, what: str, snapshot: SnapshotRow | None) -> Recovery:
        """Restart the standby and time it; without a snapshot: after deleting all of them."""
        local = self._system.local
        with step(f"recovery from {what}"):
            local.stop_replica(OTHER)
            if snapshot is None:
                shutil.rmtree(local.layout.snapshots)
            started_s = time.monotonic()
            local.start_replica(OTHER)
            found = self._watch(what, started_s, (snapshot.seq or 0) if snapshot else 0)
            wait_until_settled(self._system, SHARD, same_seq=True)
        print_line(f"from {what}: in sync after {found.in_sync_s:.2f} s")
        return found

    def _watch(self, what: str, started_s: float, first_seq: int) -> Recovery:
        """`first_seq`: the first command that the replica reads in the journal."""
        seen_s = open_s = now_s = 0.0

        def in_sync() -> ReplicaStatus | None:
            nonlocal seen_s, open_s, now_s
            status, now_s = self._status(OTHER), time.monotonic() - started_s
            if status is None:
                return None
            seen_s = seen_s or now_s
            if status.state == "catching_up":
                open_s = open_s or now_s
            if status.catch_up is not None:
                show_status(f"{what}: {status.catch_up.done:,} of {status.catch_up.total:,}")
            return status if status.state == "standby" else None

        last = wait_for(in_sync, lambda: f"{OTHER} is not in sync", TIMEOUT_S, poll_s=POLL_S)
        leader = self._status(LEADER)
        assert leader is not None
        open_s, commands = open_s or now_s, last.seq - first_seq
        return Recovery(
            what=what,
            journal_commands=leader.seq,
            commands=commands,
            seen_s=round(seen_s, 3),
            open_s=round(open_s, 3),
            in_sync_s=round(now_s, 3),
            commands_per_s=round(commands / max(now_s - open_s, 0.001)),
            digest_equal=leader.digest == last.digest,
        )

    def _status(self, name: str) -> ReplicaStatus | None:
        answer = fetch_state(self._system.plan.url(name))
        return answer.shards[SHARD] if answer is not None else None

    def _wait_for(self, name: str, condition: Callable[[ReplicaStatus], bool]) -> None:
        def holds() -> bool:
            status = self._status(name)
            if status is not None:
                show_status(f"{name}: {status.state}, seq {status.seq:,}")
            return status is not None and condition(status)

        wait_for(holds, lambda: f"{name} has not applied all commands", TIMEOUT_S)
