"""A replica's dealings with snapshots: when it takes one, and how it goes on from one."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from postjournal.core import messages as m
from postjournal.core.roles import Role
from postjournal.core.snapshot.image import record_digest
from tests.support.stepped_replica import (
    OPEN,
    Bench,
    claim_of,
    heartbeat,
    leader,
    opened,
    standby_of,
)

T = TypeVar("T")


def ask(bench: Bench, number: int = 1, *, leader: bool = False) -> list[m.Effect]:
    return bench.step(m.SnapshotRequested("b", f"s{number}", 1, leader))


def only(bench: Bench, kind: type[T]) -> T:
    (effect,) = bench.of(kind)
    return effect


def test_a_standby_takes_a_snapshot_at_the_offset_that_it_has_read() -> None:
    bench = standby_of()
    bench.land(heartbeat(1))
    ask(bench)
    taken = only(bench, m.TakeSnapshot)
    assert (taken.image.offset, taken.image.record_digest) == (1, record_digest(heartbeat(1)))
    assert taken.image.machine is bench.replica.machine


def test_an_order_for_another_replica_is_none() -> None:
    bench = standby_of()
    assert bench.step(m.SnapshotRequested("c", "s1", 1)) == []


def test_an_order_that_comes_twice_is_one() -> None:
    bench = standby_of()
    ask(bench)
    assert ask(bench) == []
    bench.step(m.SnapshotProgressed("s1", 1, "done"))
    assert ask(bench) == []


def test_one_snapshot_is_taken_at_a_time() -> None:
    bench = standby_of()
    ask(bench, 1)
    ask(bench, 2)
    assert "busy with snapshot s1" in str(only(bench, m.SnapshotProgressed).error)
    bench.step(m.SnapshotProgressed("s1", 1, "failed"))
    ask(bench, 3)
    assert only(bench, m.TakeSnapshot).asked.snapshot_id == "s3"


def test_a_replica_that_is_not_in_sync_refuses() -> None:
    bench = Bench()
    ask(bench)
    assert "restoring" in str(only(bench, m.SnapshotProgressed).error)


def test_a_leader_refuses_unless_it_is_allowed() -> None:
    bench = leader()
    ask(bench)
    assert "leader" in str(only(bench, m.SnapshotProgressed).error)
    bench.step(m.SnapshotRequested("b", "s2", 1, allow_leader=True))
    assert only(bench, m.TakeSnapshot).image.offset == 1


def test_a_leader_decides_nothing_until_its_snapshot_is_taken() -> None:
    """And the state that is taken is that of the offset, not of what is decided next."""
    bench = leader()
    bench.feed(OPEN)
    (entry,) = bench.of(m.Append)
    ask(bench, leader=True)
    assert bench.of(m.TakeSnapshot) == []
    bench.feed(opened(2), offset=1)
    assert bench.of(m.Append) == []
    bench.land(entry.value)
    assert only(bench, m.TakeSnapshot).image.offset == 2
    assert bench.of(m.Append) == []
    assert bench.replica.machine.state == {"x": 0}
    bench.tick(1)
    assert len(bench.of(m.Append)) == 1


def test_a_leader_that_never_has_a_quiet_moment_gives_up() -> None:
    bench = leader()
    bench.feed(OPEN)
    ask(bench, leader=True)
    bench.tick(bench.limits.snapshot_wait_ms)
    assert "no moment" in str(only(bench, m.SnapshotProgressed).error)
    bench.feed(opened(2), offset=1)
    bench.feed(*[opened(n) for n in range(3, 300)], offset=2)
    assert bench.of(m.Append), "it decides again"


def test_a_leader_that_is_deposed_while_it_waits_says_so() -> None:
    bench = leader()
    bench.feed(OPEN)
    ask(bench, leader=True)
    bench.land(claim_of("c", 2, 1))
    assert "leadership ended" in str(only(bench, m.SnapshotProgressed).error)


def test_a_restored_replica_goes_on_from_the_snapshots_offset() -> None:
    first = standby_of()
    first.land(heartbeat(1))
    ask(first)
    image = only(first, m.TakeSnapshot).image
    second = Bench(restored=image)
    assert only(second, m.OpenJournal).offset == 2
    second.step(m.JournalEnd(2))
    assert second.replica.role is Role.STANDBY
    assert only(second, m.WatchLeader).address == "host-a:1"
    second.tick(second.limits.silence_ms)
    second.step(m.JournalEnd(2))
    assert msgspec.json.decode(only(second, m.AppendClaim).value)["seen"] == 1


def test_a_snapshot_right_after_a_restore_is_the_same_snapshot() -> None:
    first = standby_of()
    ask(first)
    image = only(first, m.TakeSnapshot).image
    second = Bench(restored=image)
    second.step(m.JournalEnd(1))
    ask(second)
    again = only(second, m.TakeSnapshot).image
    assert b"".join(again.content()) == b"".join(image.content())


def test_a_replica_whose_journal_is_trimmed_begins_anew() -> None:
    bench = standby_of()
    bench.step(m.JournalTrimmed())
    assert bench.replica.role is Role.REBUILDING
    assert bench.of(m.Rebuild)
