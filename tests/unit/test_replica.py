"""A replica's roles and transitions, one message at a time, with a journal in memory."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from postjournal.core import messages as m
from postjournal.core.errors import NewerFormat, SinkAhead
from postjournal.core.records import Resign
from postjournal.core.roles import Role
from tests.support.stepped_replica import (
    CODEC,
    OPEN,
    SteppedReplica,
    claim_of,
    depose,
    heartbeat,
    leader,
    opened,
    standby_of,
)

# --- becoming leader ------------------------------------------------------------------------


def test_an_empty_journal_is_claimed_at_once() -> None:
    replica = SteppedReplica()
    replica.step(m.JournalEnd(0))
    claim = replica.only(m.AppendClaim)
    assert msgspec.json.decode(claim.value) == {
        "kind": "claim",
        "epoch": 1,
        "replica": "b",
        "incarnation": "b-1",
        "address": "host-b:1",
        "seen": -1,
    }


def test_a_standby_watches_the_leader_and_does_not_claim_while_it_lives() -> None:
    replica = standby_of("a")
    assert [watch.address for watch in replica.of(m.WatchLeader)] == ["host-a:1"]
    for _ in range(50):
        replica.deliver(heartbeat(1), after_ms=100)
        assert not replica.of(m.AppendClaim)


def test_a_fired_tripwire_is_claimed_at_once() -> None:
    replica = standby_of()
    replica.step(m.TripwireFired(1))
    assert [CODEC.decode(claim.value).seen for claim in replica.of(m.AppendClaim)] == [0]  # type: ignore[union-attr]


def test_a_tripwire_of_an_earlier_epoch_is_ignored() -> None:
    replica = standby_of()
    replica.step(m.TripwireFired(0))
    assert not replica.of(m.AppendClaim)


def test_silence_is_claimed_only_after_the_broker_confirmed_that_all_records_are_read() -> None:
    replica = standby_of()
    replica.tick(399)
    assert not replica.of(m.ProbeEnd)
    replica.tick(1)
    assert replica.of(m.ProbeEnd)
    assert not replica.of(m.AppendClaim)
    replica.step(m.JournalEnd(2))  # a record that is not read yet
    assert not replica.of(m.AppendClaim)
    replica.step(m.JournalEnd(1))
    assert replica.of(m.AppendClaim)


def test_after_an_outage_of_the_broker_the_leader_has_its_full_time_again() -> None:
    replica = standby_of()
    replica.tick(400)
    replica.step(m.JournalEnd(None))
    replica.tick(20_000)
    replica.step(m.JournalEnd(1))  # the broker is available again
    assert not replica.of(m.AppendClaim)
    replica.tick(399)
    assert not replica.of(m.ProbeEnd)
    replica.tick(1)
    replica.step(m.JournalEnd(1))
    assert replica.of(m.AppendClaim)


def test_a_record_in_flight_when_the_leader_died_does_not_end_the_suspicion() -> None:
    replica = standby_of()
    replica.step(m.TripwireFired(1))
    stale = replica.only(m.AppendClaim)
    replica.deliver(heartbeat(1), stale.value, after_ms=2)
    assert replica.of(m.RecordVoid)
    assert replica.of(m.AppendClaim), "claims again at once, having read the heartbeat"


def test_a_later_sign_of_life_ends_the_suspicion_and_purges_the_claim() -> None:
    replica = standby_of()
    replica.step(m.TripwireFired(1))
    replica.deliver(heartbeat(1), after_ms=replica.limits.tripwire_grace_ms)
    assert replica.of(m.PurgeClaims)
    assert replica.core.role is Role.STANDBY


def test_a_lost_claim_is_repeated() -> None:
    replica = standby_of()
    replica.step(m.TripwireFired(1))
    replica.tick(replica.limits.claim_retry_ms)
    assert replica.of(m.AppendClaim)


def test_the_named_successor_claims_at_once_and_others_later() -> None:
    for successor, at_once in (("b", True), (None, True), ("c", False)):
        replica = standby_of()
        replica.deliver(CODEC.encode(Resign(1, successor)))
        assert bool(replica.of(m.AppendClaim)) is at_once
        replica.tick(replica.limits.successor_grace_ms)
        assert bool(replica.of(m.AppendClaim)) is not at_once


# --- leading --------------------------------------------------------------------------------


def test_nothing_is_published_before_its_entry_is_read_back() -> None:
    replica = leader()
    for sink in ("results", "balances", "deadletter"):
        replica.step(m.SinkTail(sink, 0))
    replica.feed(OPEN)
    entry = replica.only(m.Append)
    assert not replica.of(m.Publish)
    replica.deliver(entry.value)
    assert [publish.sink for publish in replica.of(m.Publish)] == ["results", "balances"]


def test_a_leader_sends_heartbeats_only_while_none_of_its_records_is_in_flight() -> None:
    replica = leader()
    replica.tick(100)
    sent = replica.only(m.Append)
    for _ in range(30):
        replica.tick(100)
        assert not replica.of(m.Append)
    replica.deliver(sent.value)
    assert replica.of(m.Append)


def test_the_pipeline_is_bounded() -> None:
    replica = leader()
    commands = replica.limits.batch_commands * (replica.limits.pipeline_entries + 2)
    replica.feed(*(opened(n) for n in range(commands)))
    appended = replica.of(m.Append)
    while replica.core.is_busy:
        appended += [effect for effect in replica.tick(0) if isinstance(effect, m.Append)]
    assert len(appended) == replica.limits.pipeline_entries


def test_source_records_that_are_delivered_again_are_dropped() -> None:
    replica = leader()
    replica.feed(OPEN)
    entry = replica.only(m.Append)
    replica.deliver(entry.value)
    replica.feed(OPEN)
    assert not replica.of(m.Append)


def test_a_deposed_leader_without_unconfirmed_entries_becomes_a_standby() -> None:
    replica = leader()
    depose(replica)
    assert replica.core.role is Role.STANDBY
    assert not replica.of(m.Rebuild)
    assert replica.of(m.CloseSources)
    assert replica.of(m.CloseSinks)
    assert [watch.epoch for watch in replica.of(m.WatchLeader)] == [2]


def test_a_deposed_leader_with_an_unconfirmed_entry_rebuilds() -> None:
    replica = leader()
    replica.feed(OPEN)
    depose(replica)
    assert isinstance(replica.effects[-1], m.Rebuild)


def test_an_own_entry_after_a_lost_one_ends_leadership() -> None:
    replica = leader()
    replica.feed(*(opened(n) for n in range(replica.limits.batch_commands * 2)))
    lost = replica.only(m.Append)
    replica.tick(0)
    appended = replica.only(m.Append)
    assert lost.value != appended.value
    replica.deliver(appended.value)
    assert isinstance(replica.effects[-1], m.Rebuild)


def test_an_own_entry_that_was_appended_twice_does_not_end_leadership() -> None:
    replica = leader()
    replica.feed(OPEN)
    entry = replica.only(m.Append)
    replica.deliver(entry.value, entry.value)
    assert replica.core.role is Role.LEADER
    assert replica.of(m.RecordVoid)


@pytest.mark.parametrize(
    "garbage", [b"", b"not json", b'{"kind":"entry"}', b'{"kind":"claim","epoch":7}', b"[1]"]
)
def test_void_records_of_other_processes_do_not_end_leadership(garbage: bytes) -> None:
    replica = leader()
    replica.deliver(garbage, claim_of("c", 7, 99), claim_of("c", 2, -1))
    assert replica.core.role is Role.LEADER
    assert len(replica.of(m.RecordVoid)) == 3


def test_a_failed_append_ends_leadership() -> None:
    replica = leader()
    replica.feed(OPEN)
    replica.step(m.AppendFailed("timed out"))
    assert isinstance(replica.effects[-1], m.Rebuild)


def test_a_leader_whose_records_are_acknowledged_and_not_read_back_resigns() -> None:
    replica = leader()
    replica.step(m.AppendAcknowledged(1))  # of the first heartbeat
    replica.feed(OPEN)
    replica.step(m.AppendAcknowledged(1))
    replica.tick(replica.limits.readback_ms - 1)
    assert replica.core.role is Role.LEADER
    replica.tick(1)
    assert [CODEC.decode(append.value) for append in replica.of(m.Append)] == [Resign(1)]
    assert isinstance(replica.effects[-1], m.Rebuild)


def test_a_leader_whose_records_are_not_acknowledged_waits() -> None:
    replica = leader()
    replica.feed(OPEN)  # neither acknowledged nor failed
    replica.tick(20_000)
    assert replica.core.role is Role.LEADER


def test_a_sink_ahead_of_a_fully_read_journal_halts_the_shard() -> None:
    replica = leader()
    replica.step(m.SinkTail("results", 5))
    probe = replica.only(m.ProbeEnd)
    with pytest.raises(SinkAhead, match="results"):
        replica.step(m.JournalEnd(len(replica.journal), probe.token))


def test_an_end_requested_before_a_sink_was_found_ahead_proves_nothing() -> None:
    replica = leader()
    replica.step(m.SinkTail("results", 5))
    earlier = replica.only(m.ProbeEnd)
    replica.step(m.SinkTail("balances", 5))
    probe = replica.only(m.ProbeEnd)
    for token in (None, earlier.token):
        replica.step(m.JournalEnd(len(replica.journal), token))
    with pytest.raises(SinkAhead):
        replica.step(m.JournalEnd(len(replica.journal), probe.token))


def test_an_end_that_the_broker_did_not_return_is_requested_again() -> None:
    replica = leader()
    replica.step(m.SinkTail("results", 5))
    probe = replica.only(m.ProbeEnd)
    replica.step(m.JournalEnd(None, probe.token))
    again = replica.only(m.ProbeEnd)
    assert again.token != probe.token


def test_no_two_heartbeats_of_a_leader_are_equal() -> None:
    replica = leader()
    heartbeats = set()
    for _ in range(3):  # barriers of queries in the same ms
        replica.step(m.QueryRequested(0, {"account": "x"}, True))
        sent = replica.only(m.Append)
        heartbeats.add(sent.value)
        replica.deliver(sent.value)
    assert len(heartbeats) == 3


def test_a_sink_ahead_does_not_halt_a_leader_that_has_not_read_that_it_is_deposed() -> None:
    replica = leader()
    replica.step(m.SinkTail("results", 5))
    probe = replica.only(m.ProbeEnd)
    replica.step(m.JournalEnd(len(replica.journal) + 1, probe.token))
    depose(replica)
    assert replica.core.role is Role.STANDBY


def test_a_leadership_that_ends_without_a_rebuild_forgets_its_appends() -> None:
    replica = leader()  # its heartbeat was read back before the broker's acknowledgement
    depose(replica)
    assert replica.of(m.ForgetAppends)


# --- newer releases -------------------------------------------------------------------------


def test_a_replica_halts_at_a_record_that_only_a_newer_release_can_read() -> None:
    replica = standby_of()
    newer = {"kind": "format", "epoch": 1, "seq": 0, "format": 2}
    with pytest.raises(NewerFormat, match=r"offset 1 is format 2.*update this replica"):
        replica.deliver(msgspec.json.encode(newer))


def test_a_deposed_leader_of_a_newer_release_does_not_halt_others() -> None:
    replica = standby_of()
    replica.deliver(claim_of("c", 2, 0))
    newer = {"kind": "format", "epoch": 1, "seq": 0, "format": 2}
    replica.deliver(msgspec.json.encode(newer))
    assert [void.kind for void in replica.of(m.RecordVoid)] == ["foreign"]
    assert replica.core.role is Role.STANDBY


# --- reads, handover, stop ------------------------------------------------------------------


def query(replica: SteppedReplica, *, linearizable: bool) -> list[m.Reply]:
    replica.step(m.QueryRequested("token", {"account": "x"}, linearizable))
    return replica.of(m.Reply)


def test_a_linearizable_read_waits_for_a_record_appended_after_it() -> None:
    replica = leader()
    assert not query(replica, linearizable=True)
    barrier = replica.only(m.Append)
    replica.deliver(barrier.value)
    assert [reply.error for reply in replica.of(m.Reply)] == [None]


def test_a_read_of_undecided_state_waits_until_it_is_stable() -> None:
    replica = leader()
    replica.feed(OPEN)
    entry = replica.only(m.Append)
    assert not query(replica, linearizable=False)
    replica.deliver(entry.value)
    reply = replica.only(m.Reply)
    assert (reply.result, reply.seq) == (msgspec.Raw(b'{"account":"x","balance":0}'), 0)


def test_pending_answers_of_a_deposed_leader_are_refused() -> None:
    replica = leader()
    query(replica, linearizable=True)
    depose(replica)
    assert [reply.error for reply in replica.of(m.Reply)] == ["not_leader"]


def test_a_standby_answers_only_reads_that_need_not_be_linearizable() -> None:
    replica = standby_of()
    assert [reply.error for reply in query(replica, linearizable=True)] == ["not_leader"]
    assert [reply.error for reply in query(replica, linearizable=False)] == [None]


def wait_for(replica: SteppedReplica, min_seq: int, timeout_ms: int = 500) -> None:
    replica.step(m.QueryRequested("token", {"account": "x"}, False, min_seq, timeout_ms))
    assert not replica.of(m.Reply)


def test_a_standby_answers_once_it_has_applied_the_command_that_the_reader_has_seen() -> None:
    replica, other = standby_of("a"), leader()
    wait_for(replica, min_seq=0)
    other.feed(OPEN)
    entry = other.only(m.Append)
    replica.deliver(heartbeat(1))
    assert not replica.of(m.Reply)
    replica.deliver(entry.value)
    reply = replica.only(m.Reply)
    assert (reply.result, reply.seq) == (msgspec.Raw(b'{"account":"x","balance":0}'), 0)


def test_a_standby_that_stays_behind_returns_its_seq() -> None:
    replica = standby_of()
    wait_for(replica, min_seq=7)
    assert not [reply for _ in range(2) for reply in replica.tick(200) if type(reply) is m.Reply]
    replica.tick(200)
    assert [(reply.error, reply.seq) for reply in replica.of(m.Reply)] == [("behind", -1)]


def test_a_replica_that_stops_refuses_pending_reads() -> None:
    replica = standby_of()
    wait_for(replica, min_seq=7)
    replica.step(m.StopRequested())
    assert [reply.error for reply in replica.of(m.Reply)] == ["not_ready"]


def test_a_handover_completes_what_is_in_flight_before_it_resigns() -> None:
    replica = leader()
    for sink in ("results", "balances", "deadletter"):
        replica.step(m.SinkTail(sink, 0))
    replica.feed(OPEN)
    entry = replica.only(m.Append)
    replica.step(m.HandoverRequested("c"))
    assert not replica.of(m.Append)
    replica.deliver(entry.value)
    replica.step(m.Published("results", 1))
    assert not replica.of(m.Append)
    replica.step(m.Published("balances", 1))
    marks, resignation = replica.of(m.Append)
    published = {"results": 1, "balances": 1, "deadletter": 0}
    assert msgspec.json.decode(marks.value)["published"] == published
    assert CODEC.decode(resignation.value) == Resign(1, "c")
    replica.deliver(resignation.value)
    assert replica.core.role is Role.STANDBY


def test_a_handover_to_itself_is_ignored() -> None:
    replica = leader()
    replica.step(m.HandoverRequested("b"))
    assert replica.core.role is Role.LEADER


@pytest.mark.parametrize("make", [standby_of, SteppedReplica])
def test_a_replica_that_does_not_lead_stops_at_once(make: Callable[[], SteppedReplica]) -> None:
    replica = make()
    replica.step(m.StopRequested())
    assert isinstance(replica.effects[-1], m.Stopped)


def test_a_stopping_leader_resigns_first_and_stops_after_a_timeout() -> None:
    replica = leader()
    replica.step(m.StopRequested())
    replica.tick(replica.limits.resign_ms)
    assert [CODEC.decode(append.value) for append in replica.of(m.Append)] == [Resign(1)]
    replica.tick(replica.limits.stop_ms)
    assert isinstance(replica.effects[-1], m.Stopped)
