"""Records in a leader's name that somebody else wrote."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from postjournal.core import messages as m
from postjournal.core.records import Entry, Heartbeat
from postjournal.core.roles import Role
from tests.support.stepped_replica import CODEC, FEED, OPEN, Bench, claim_of, leader, opened


def forged() -> bytes:
    """What the leader would append if it decided `OPEN` next, but with another time in it."""
    bench = leader()
    bench.feed(OPEN)
    (append,) = bench.of(m.Append)
    entry = CODEC.decode(append.value)
    assert isinstance(entry, Entry)
    return CODEC.encode(msgspec.structs.replace(entry, time=entry.time + 1))


def test_a_leader_with_nothing_in_flight_takes_it_in_and_reads_on() -> None:
    bench = leader()
    bench.land(forged(), claim_of("c", 2, 2))
    replica = bench.replica
    assert (replica.role, replica.journal.epoch, replica.journal.next_seq) == (Role.STANDBY, 2, 1)
    assert (replica.machine.sources, replica.position) == ({FEED: 1}, 4)
    assert [watch.epoch for watch in bench.of(m.WatchLeader)] == [2]


def test_a_leader_that_has_become_a_standby_claims_after_silence() -> None:
    bench = leader()
    bench.land(forged())
    assert bench.of(m.CloseSources)
    assert bench.of(m.CloseSinks)
    bench.tick(bench.limits.silence_ms)
    assert not bench.of(m.AppendClaim)
    bench.step(m.JournalEnd(3))
    assert len(bench.of(m.AppendClaim)) == 1


def deciding() -> Bench:
    """A leader with an entry in flight, an answer held and a snapshot that waits."""
    bench = leader()
    bench.feed(opened(1))
    bench.step(m.QueryRequested("token", {"account": "x"}, linearizable=True))
    bench.step(m.SnapshotRequested("b", "s1", 1, allow_leader=True))
    return bench


def test_a_leader_whose_own_entry_comes_too_late_rebuilds_and_reads_no_further() -> None:
    bench = deciding()
    bench.land(forged(), claim_of("c", 2, 2))
    assert isinstance(bench.effects[-1], m.Rebuild)
    assert bench.replica.position == 3
    assert [reply.error for reply in bench.of(m.Reply)] == ["not_leader"]
    assert [each.state for each in bench.of(m.SnapshotProgressed)] == ["failed"]


def test_a_leader_that_is_to_stop_stops() -> None:
    bench = deciding()
    bench.step(m.StopRequested())
    bench.land(forged(), claim_of("c", 2, 2))
    assert isinstance(bench.effects[-1], m.Stopped)
    assert bench.replica.role is Role.STOPPED


@pytest.mark.parametrize("kind", [Entry, Heartbeat])
def test_a_void_record_of_somebody_else_ends_nothing(kind: type[Any]) -> None:
    """Not even one over a gap: an own record that was lost is missed at the next own one."""
    bench = leader()
    entry = CODEC.decode(forged())
    assert isinstance(entry, Entry)
    ahead = msgspec.structs.replace(entry, seq=7)
    beat = Heartbeat(entry.epoch, 7, {}, entry.time)
    bench.land(CODEC.encode(ahead if kind is Entry else beat))
    assert bench.replica.role is Role.LEADER
    assert bench.of(m.RecordVoid)
