"""Records in a leader's name that another process wrote."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from postjournal.core import messages as m
from postjournal.core.records import Entry, Heartbeat
from postjournal.core.roles import Role
from tests.support.stepped_replica import (
    CODEC,
    FEED,
    OPEN,
    SteppedReplica,
    claim_of,
    leader,
    opened,
)


def forged() -> bytes:
    """The leader's next entry if it decided `OPEN`, but with another time."""
    replica = leader()
    replica.feed(OPEN)
    append = replica.only(m.Append)
    entry = CODEC.decode(append.value)
    assert isinstance(entry, Entry)
    return CODEC.encode(msgspec.structs.replace(entry, time=entry.time + 1))


def test_a_leader_with_nothing_in_flight_applies_it_and_becomes_a_standby() -> None:
    replica = leader()
    replica.deliver(forged(), claim_of("c", 2, 2))
    core = replica.core
    assert (core.role, core.journal.epoch, core.journal.next_seq) == (Role.STANDBY, 2, 1)
    assert (core.machine.sources, core.position) == ({FEED: 1}, 4)
    assert [watch.epoch for watch in replica.of(m.WatchLeader)] == [2]


def test_a_leader_that_became_a_standby_claims_after_silence() -> None:
    replica = leader()
    replica.deliver(forged())
    assert replica.of(m.CloseSources)
    assert replica.of(m.CloseSinks)
    replica.tick(replica.limits.silence_ms)
    assert not replica.of(m.AppendClaim)
    replica.step(m.JournalEnd(3))
    assert len(replica.of(m.AppendClaim)) == 1


def deciding() -> SteppedReplica:
    """A leader with an entry in flight, a pending answer and a pending snapshot."""
    replica = leader()
    replica.feed(opened(1))
    replica.step(m.QueryRequested("token", {"account": "x"}, linearizable=True))
    replica.step(m.SnapshotRequested("b", "s1", 1, allow_leader=True))
    return replica


def test_a_leader_with_an_entry_in_flight_rebuilds_and_reads_no_further() -> None:
    replica = deciding()
    replica.deliver(forged(), claim_of("c", 2, 2))
    assert isinstance(replica.effects[-1], m.Rebuild)
    assert replica.core.position == 3
    assert [reply.error for reply in replica.of(m.Reply)] == ["not_leader"]
    assert [progress.state for progress in replica.of(m.SnapshotProgressed)] == ["failed"]


def test_a_leader_that_is_stopping_stops() -> None:
    replica = deciding()
    replica.step(m.StopRequested())
    replica.deliver(forged(), claim_of("c", 2, 2))
    assert isinstance(replica.effects[-1], m.Stopped)
    assert replica.core.role is Role.STOPPED


@pytest.mark.parametrize("kind", [Entry, Heartbeat])
def test_a_void_record_of_another_process_does_not_end_leadership(kind: type[Any]) -> None:
    """Not even one after a gap: the loss of an own record is detected by the next own record."""
    replica = leader()
    entry = CODEC.decode(forged())
    assert isinstance(entry, Entry)
    ahead = msgspec.structs.replace(entry, seq=7)
    beat = Heartbeat(entry.epoch, 7, {}, entry.time)
    replica.deliver(CODEC.encode(ahead if kind is Entry else beat))
    assert replica.core.role is Role.LEADER
    assert replica.of(m.RecordVoid)
