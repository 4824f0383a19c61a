"""When a replica takes a snapshot, and how it continues from one."""

from __future__ import annotations

import msgspec

from postjournal.core import messages as m
from postjournal.core.roles import Role, SnapshotState
from postjournal.core.snapshot.image import record_digest
from tests.support.stepped_replica import (
    OPEN,
    SteppedReplica,
    claim_of,
    heartbeat,
    leader,
    opened,
    standby_of,
)


def request(replica: SteppedReplica, number: int = 1, *, leader: bool = False) -> list[m.Effect]:
    return replica.step(m.SnapshotRequested("b", f"s{number}", 1, leader))


def test_a_standby_takes_a_snapshot_at_the_offset_that_it_has_read() -> None:
    replica = standby_of()
    replica.deliver(heartbeat(1))
    request(replica)
    taken = replica.only(m.TakeSnapshot)
    assert (taken.image.offset, taken.image.record_digest) == (1, record_digest(heartbeat(1)))
    assert taken.image.machine is replica.core.machine


def test_an_order_for_another_replica_is_ignored() -> None:
    replica = standby_of()
    assert replica.step(m.SnapshotRequested("c", "s1", 1)) == []


def test_a_repeated_order_is_ignored() -> None:
    replica = standby_of()
    request(replica)
    assert request(replica) == []
    replica.step(m.SnapshotProgressed("s1", 1, SnapshotState.DONE))
    assert request(replica) == []


def test_one_snapshot_is_taken_at_a_time() -> None:
    replica = standby_of()
    request(replica, 1)
    request(replica, 2)
    assert "busy with snapshot s1" in str(replica.only(m.SnapshotProgressed).error)
    replica.step(m.SnapshotProgressed("s1", 1, SnapshotState.FAILED))
    request(replica, 3)
    assert replica.only(m.TakeSnapshot).request.snapshot_id == "s3"


def test_a_replica_that_is_not_in_sync_refuses() -> None:
    replica = SteppedReplica()
    request(replica)
    assert "restoring" in str(replica.only(m.SnapshotProgressed).error)


def test_a_leader_refuses_unless_it_is_allowed() -> None:
    replica = leader()
    request(replica)
    assert "leader" in str(replica.only(m.SnapshotProgressed).error)
    replica.step(m.SnapshotRequested("b", "s2", 1, allow_leader=True))
    assert replica.only(m.TakeSnapshot).image.offset == 1


def test_a_leader_decides_nothing_until_its_snapshot_is_taken() -> None:
    """The snapshot has the state at its offset, without the decisions that follow."""
    replica = leader()
    replica.feed(OPEN)
    entry = replica.only(m.Append)
    request(replica, leader=True)
    assert replica.of(m.TakeSnapshot) == []
    replica.feed(opened(2), offset=1)
    assert replica.of(m.Append) == []
    replica.deliver(entry.value)
    assert replica.only(m.TakeSnapshot).image.offset == 2
    assert replica.of(m.Append) == []
    assert replica.core.machine.state == {"x": 0}
    replica.tick(1)
    assert len(replica.of(m.Append)) == 1


def test_a_leader_that_stays_busy_gives_up_and_decides_again() -> None:
    replica = leader()
    replica.feed(OPEN)
    request(replica, leader=True)
    replica.tick(replica.limits.snapshot_wait_ms)
    assert "no moment" in str(replica.only(m.SnapshotProgressed).error)
    replica.feed(opened(2), offset=1)
    replica.feed(*[opened(n) for n in range(3, 300)], offset=2)
    assert replica.of(m.Append)


def test_a_leader_that_is_deposed_while_it_waits_reports_a_failure() -> None:
    replica = leader()
    replica.feed(OPEN)
    request(replica, leader=True)
    replica.deliver(claim_of("c", 2, 1))
    assert "leadership ended" in str(replica.only(m.SnapshotProgressed).error)


def test_a_restored_replica_continues_at_the_snapshots_offset() -> None:
    first = standby_of()
    first.deliver(heartbeat(1))
    request(first)
    image = first.only(m.TakeSnapshot).image
    second = SteppedReplica(restored=image)
    assert second.only(m.OpenJournal).offset == 2
    second.step(m.JournalEnd(2))
    assert second.core.role is Role.STANDBY
    assert second.only(m.WatchLeader).address == "host-a:1"
    second.tick(second.limits.silence_ms)
    second.step(m.JournalEnd(2))
    assert msgspec.json.decode(second.only(m.AppendClaim).value)["seen"] == 1


def test_a_snapshot_after_a_restore_has_the_same_content() -> None:
    first = standby_of()
    request(first)
    image = first.only(m.TakeSnapshot).image
    second = SteppedReplica(restored=image)
    second.step(m.JournalEnd(1))
    request(second)
    again = second.only(m.TakeSnapshot).image
    assert b"".join(again.content()) == b"".join(image.content())


def test_a_replica_whose_journal_is_trimmed_rebuilds() -> None:
    replica = standby_of()
    replica.step(m.JournalTrimmed())
    assert replica.core.role is Role.REBUILDING
    assert replica.of(m.Rebuild)
