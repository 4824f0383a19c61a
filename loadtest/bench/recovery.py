"""`bench recovery`: how long a replica takes until it is in sync, without and with a snapshot."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import click
import msgspec
import requests
from rich.console import RenderableType

from loadtest.bench.options import report_options, seed_option
from loadtest.bench.report import Machine, conclude, plain_table, publish, this_machine
from loadtest.bench_system import (
    Stage,
    own_stage,
    wait_until_settled,
)
from loadtest.progress import (
    say,
    show,
    step,
)
from loadtest.workload.preload import Transfers, preload
from postjournal.cli.coordinator import CoordinatorClient, SnapshotRow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.http import direct_session
from postjournal.cli.local.programs import SERVICES
from postjournal.cli.local.status import StateAnswer, ask_replica
from postjournal.cli.local.supervisor import Supervisor
from postjournal.cluster.status import ReplicaStatus

SHARD = 0
LEADER, OTHER = "replica-1", "replica-2"
POLL_S = 0.02
PATIENCE_S = 300.0
COORDINATOR = "coordinator"


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a replica; times in s, since its process was started.

    `seen_s`: its HTTP answered first; `open_s`: it began to read the journal (the snapshot, if
    any, was restored); `in_sync_s`: it was standby. `commands`: that it read in the journal;
    `commands_per_s`: between `open_s` and `in_sync_s`. `digest_equal`: its digest was the
    leader's.
    """

    what: str
    journal_commands: int
    commands: int
    seen_s: float
    open_s: float
    in_sync_s: float
    commands_per_s: float
    digest_equal: bool


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. `snapshots`: those that were restored, in that order."""

    bench: str
    machine: Machine
    accounts: int
    commands: int
    tail: int
    recoveries: list[Recovery]
    snapshots: list[SnapshotRow]


@click.command("recovery")
@click.option(
    "--commands",
    type=click.IntRange(10_000, 50_000_000),
    default=5_000_000,
    show_default=True,
    help="In the journal at the end.",
)
@click.option(
    "--tail",
    type=click.IntRange(1_000, 5_000_000),
    default=50_000,
    show_default=True,
    help="Commands after the snapshot.",
)
@click.option("--accounts", type=click.IntRange(2, 1_000_000), default=1_000, show_default=True)
@seed_option
@report_options
def bench_recovery(
    *, commands: int, tail: int, accounts: int, seed: int, as_json: bool, output: Path | None
) -> None:
    """Measure how fast a replica comes back.

    A journal of a tenth of the commands, then of all of them: at both lengths a standby is
    started from a snapshot and a tail, and at the full length from the journal alone. The time
    counts from the start of its process.
    """
    machine = this_machine()
    transfers = Transfers(uuid.uuid4().hex[:6], accounts, commands - 2 * accounts, seed)
    with own_stage(2, launch=False) as stage:
        recoveries, snapshots = _Play(stage, transfers, tail).run()
        stage.keep = not all(each.digest_equal for each in recoveries)
    report = RecoveryReport(
        bench="recovery",
        machine=machine,
        accounts=accounts,
        commands=commands,
        tail=tail,
        recoveries=recoveries,
        snapshots=snapshots,
    )
    publish("recovery", report, _tables(report), as_json=as_json, output=output)
    conclude([] if all(each.digest_equal for each in recoveries) else ["digests differ"])


class _Play:
    def __init__(self, stage: Stage, transfers: Transfers, tail: int) -> None:
        self._stage, self._tail = stage, tail
        self._count = len(transfers)
        self._values = transfers.values()
        self._loaded = 0
        self._supervisor = Supervisor(stage.local.plan.socket)

    def run(self) -> tuple[list[Recovery], list[SnapshotRow]]:
        stage = self._stage
        self._supervisor.start(SERVICES, LEADER)
        self._wait_for(LEADER, lambda status: status.state == "leader")
        self._supervisor.start(SERVICES, OTHER)
        self._supervisor.start(SERVICES, COORDINATOR)
        coordinator = CoordinatorClient(stage.plan.url(COORDINATOR))
        snapshots, recoveries = [], []
        for length in (self._count // 10, self._count):
            self._fill(length - self._tail)
            snapshots.append(self._snapshot(coordinator))
            self._fill(length)
            what = f"a snapshot and {self._tail:,} commands"
            recoveries.append(self._recover(what, snapshots[-1]))
        return [self._recover("the whole journal", None), *recoveries], snapshots

    def _fill(self, until: int) -> None:
        """The journal grows, both replicas following, until so many commands are decided."""
        feed = self._stage.topics.source_topics[1]
        wanted = until - self._loaded
        with step(f"{until:,} commands into the journal"):
            preload(self._stage.kafka, feed, SHARD, islice(self._values, wanted))
            self._loaded = until
            for name in (LEADER, OTHER):
                self._wait_for(name, lambda status: status.seq >= until)
        wait_until_settled(self._stage, SHARD, same_seq=True)

    def _snapshot(self, coordinator: CoordinatorClient) -> SnapshotRow:
        with step("taking a snapshot"):
            wait_for(lambda: _answers(f"{self._stage.plan.url(COORDINATOR)}/readyz"))
            snapshot_id, _ = coordinator.ask(SHARD, allow_leader=False)
            row: list[SnapshotRow] = []

            def done() -> bool:
                row[:] = coordinator.snapshot(snapshot_id)
                if row[0].state == "failed":
                    raise OperationFailed(f"the snapshot failed: {row[0].error}")
                return row[0].state == "done"

            wait_for(done)
        say(f"snapshot at seq {row[0].seq}: {row[0].size} bytes in {row[0].duration_ms} ms")
        return row[0]

    def _recover(self, what: str, snapshot: SnapshotRow | None) -> Recovery:
        """Stop the standby, start it again, and watch it; without a snapshot: the last thing."""
        system = self._stage.local
        with step(f"recovery from {what}"):
            system.stop_replica(OTHER)
            if snapshot is None:
                shutil.rmtree(system.layout.snapshots)
            started = time.monotonic()
            system.start_replica(OTHER)
            found = self._watch(what, started, (snapshot.seq or 0) if snapshot else 0)
            wait_until_settled(self._stage, SHARD, same_seq=True)
        say(f"from {what}: in sync after {found.in_sync_s:.2f} s")
        return found

    def _watch(self, what: str, started: float, seq: int) -> Recovery:
        """`seq`: where it begins to read."""
        seen_s = open_s = 0.0
        while True:
            status, now_s = self._status(OTHER), time.monotonic() - started
            if now_s > PATIENCE_S:
                raise OperationFailed(f"{OTHER} is not in sync after {PATIENCE_S:.0f} s")
            if status is None:
                time.sleep(POLL_S)
                continue
            seen_s = seen_s or now_s
            if status.state == "catching_up":
                open_s = open_s or now_s
            if status.state == "standby":
                return self._told(what, status, seq, (seen_s, open_s or now_s, now_s))
            if status.catch_up is not None:
                show(f"{what}: {status.catch_up.done:,} of {status.catch_up.total:,}")
            time.sleep(POLL_S)

    def _told(
        self, what: str, last: ReplicaStatus, seq: int, times_s: tuple[float, float, float]
    ) -> Recovery:
        seen_s, open_s, in_sync_s = times_s
        leader = self._status(LEADER)
        assert leader is not None
        commands = last.seq - seq
        return Recovery(
            what=what,
            journal_commands=leader.seq,
            commands=commands,
            seen_s=round(seen_s, 3),
            open_s=round(open_s, 3),
            in_sync_s=round(in_sync_s, 3),
            commands_per_s=round(commands / max(in_sync_s - open_s, 0.001)),
            digest_equal=leader.digest == last.digest,
        )

    def _status(self, name: str) -> ReplicaStatus | None:
        answer: StateAnswer | None = ask_replica(self._stage.plan.url(name))
        return answer.shards[SHARD] if answer is not None else None

    def _wait_for(self, name: str, condition: Callable[[ReplicaStatus], bool]) -> None:
        def holds() -> bool:
            status = self._status(name)
            if status is not None:
                show(f"{name}: {status.state}, seq {status.seq:,}")
            return status is not None and condition(status)

        wait_for(holds)


def wait_for(condition: Callable[[], bool]) -> None:
    """Raises `OperationFailed` when it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise OperationFailed(f"it did not come to pass within {PATIENCE_S:.0f} s")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with direct_session() as session:
            return session.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


def _tables(report: RecoveryReport) -> list[RenderableType]:
    table = plain_table(
        "recovery of a standby from", "journal", "read", "up", "restored", "in sync", "commands/s"
    )
    for each in report.recoveries:
        table.add_row(
            each.what,
            f"{each.journal_commands:,}",
            f"{each.commands:,}",
            f"{each.seen_s:.2f} s",
            f"{each.open_s:.2f} s",
            f"{each.in_sync_s:.2f} s",
            f"{each.commands_per_s:,.0f}",
        )
    return [
        f"[bold]{report.commands:,} commands in the journal[/], {report.accounts:,} accounts; "
        "times from the start of the process",
        table,
    ]
