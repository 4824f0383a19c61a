"""A replica's roles and transitions, one message at a time, against a journal kept by hand."""

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
    Bench,
    claim_of,
    depose,
    heartbeat,
    leader,
    opened,
    standby_of,
)

# --- becoming leader ------------------------------------------------------------------------


def test_an_empty_journal_is_claimed_at_once() -> None:
    bench = Bench()
    bench.step(m.JournalEnd(0))
    (claim,) = bench.of(m.AppendClaim)
    assert msgspec.json.decode(claim.value) == {
        "kind": "claim",
        "epoch": 1,
        "replica": "b",
        "incarnation": "b-1",
        "address": "host-b:1",
        "seen": -1,
    }


def test_a_standby_watches_the_leader_and_stays_quiet_while_it_lives() -> None:
    bench = standby_of("a")
    assert [watch.address for watch in bench.of(m.WatchLeader)] == ["host-a:1"]
    for _ in range(50):
        bench.land(heartbeat(1), after_ms=100)
        assert not bench.of(m.AppendClaim)


def test_a_fired_tripwire_is_claimed_at_once() -> None:
    bench = standby_of()
    bench.step(m.TripwireFired(1))
    assert [CODEC.decode(claim.value).seen for claim in bench.of(m.AppendClaim)] == [0]  # type: ignore[union-attr]


def test_a_tripwire_of_an_earlier_epoch_means_nothing() -> None:
    bench = standby_of()
    bench.step(m.TripwireFired(0))
    assert not bench.of(m.AppendClaim)


def test_silence_is_claimed_only_after_the_broker_confirmed_that_all_is_read() -> None:
    bench = standby_of()
    bench.tick(399)
    assert not bench.of(m.ProbeEnd)
    bench.tick(1)
    assert bench.of(m.ProbeEnd)
    assert not bench.of(m.AppendClaim)
    bench.step(m.JournalEnd(2))  # a record that is not read yet
    assert not bench.of(m.AppendClaim)
    bench.step(m.JournalEnd(1))
    assert bench.of(m.AppendClaim)


def test_a_broker_that_was_away_gives_the_leader_its_time_again() -> None:
    bench = standby_of()
    bench.tick(400)
    bench.step(m.JournalEnd(None))
    bench.tick(20_000)
    bench.step(m.JournalEnd(1))  # it is back
    assert not bench.of(m.AppendClaim)
    bench.tick(399)
    assert not bench.of(m.ProbeEnd)
    bench.tick(1)
    bench.step(m.JournalEnd(1))
    assert bench.of(m.AppendClaim)


def test_a_record_in_flight_when_the_process_died_does_not_end_the_suspicion() -> None:
    bench = standby_of()
    bench.step(m.TripwireFired(1))
    (stale,) = bench.of(m.AppendClaim)
    bench.land(heartbeat(1), stale.value, after_ms=2)
    assert bench.of(m.RecordVoid)
    assert bench.of(m.AppendClaim), "claims again at once, having read the heartbeat"


def test_life_later_than_that_ends_it_and_purges_the_claim() -> None:
    bench = standby_of()
    bench.step(m.TripwireFired(1))
    bench.land(heartbeat(1), after_ms=bench.limits.tripwire_grace_ms)
    assert bench.of(m.PurgeClaims)
    assert bench.replica.role is Role.STANDBY


def test_a_lost_claim_is_repeated() -> None:
    bench = standby_of()
    bench.step(m.TripwireFired(1))
    bench.tick(bench.limits.claim_retry_ms)
    assert bench.of(m.AppendClaim)


def test_the_named_successor_claims_at_once_and_others_a_little_later() -> None:
    for successor, at_once in (("b", True), (None, True), ("c", False)):
        bench = standby_of()
        bench.land(CODEC.encode(Resign(1, successor)))
        assert bool(bench.of(m.AppendClaim)) is at_once
        bench.tick(bench.limits.successor_grace_ms)
        assert bool(bench.of(m.AppendClaim)) is not at_once


# --- leading --------------------------------------------------------------------------------


def test_nothing_is_published_before_its_entry_is_read_back() -> None:
    bench = leader()
    for sink in ("results", "balances", "deadletter"):
        bench.step(m.SinkTail(sink, 0))
    bench.feed(OPEN)
    (entry,) = bench.of(m.Append)
    assert not bench.of(m.Publish)
    bench.land(entry.value)
    assert [publish.sink for publish in bench.of(m.Publish)] == ["results", "balances"]


def test_a_leader_shows_life_only_while_nothing_of_its_own_is_outstanding() -> None:
    bench = leader()
    bench.tick(100)
    (beat,) = bench.of(m.Append)
    for _ in range(30):
        bench.tick(100)
        assert not bench.of(m.Append)
    bench.land(beat.value)
    assert bench.of(m.Append)


def test_the_pipeline_is_bounded() -> None:
    bench = leader()
    commands = bench.limits.batch_commands * (bench.limits.pipeline_entries + 2)
    bench.feed(*(opened(n) for n in range(commands)))
    appended = bench.of(m.Append)
    while bench.replica.is_busy:
        appended += [effect for effect in bench.tick(0) if isinstance(effect, m.Append)]
    assert len(appended) == bench.limits.pipeline_entries


def test_source_records_delivered_again_are_dropped() -> None:
    bench = leader()
    bench.feed(OPEN)
    (entry,) = bench.of(m.Append)
    bench.land(entry.value)
    bench.feed(OPEN)
    assert not bench.of(m.Append)


def test_a_deposed_leader_with_nothing_undecided_becomes_a_standby() -> None:
    bench = leader()
    depose(bench)
    assert bench.replica.role is Role.STANDBY
    assert not bench.of(m.Rebuild)
    assert bench.of(m.CloseSources)
    assert bench.of(m.CloseSinks)
    assert [watch.epoch for watch in bench.of(m.WatchLeader)] == [2]


def test_a_deposed_leader_that_decided_what_never_landed_rebuilds() -> None:
    bench = leader()
    bench.feed(OPEN)
    depose(bench)
    assert isinstance(bench.effects[-1], m.Rebuild)


def test_an_own_entry_over_a_gap_ends_leadership() -> None:
    bench = leader()
    bench.feed(*(opened(n) for n in range(bench.limits.batch_commands * 2)))
    (lost,) = bench.of(m.Append)
    bench.tick(0)
    (landed,) = bench.of(m.Append)
    assert lost.value != landed.value
    bench.land(landed.value)
    assert isinstance(bench.effects[-1], m.Rebuild)


def test_an_own_entry_that_landed_twice_does_not() -> None:
    bench = leader()
    bench.feed(OPEN)
    (entry,) = bench.of(m.Append)
    bench.land(entry.value, entry.value)
    assert bench.replica.role is Role.LEADER
    assert bench.of(m.RecordVoid)


@pytest.mark.parametrize(
    "garbage", [b"", b"not json", b'{"kind":"entry"}', b'{"kind":"claim","epoch":7}', b"[1]"]
)
def test_void_records_of_somebody_else_do_not_end_leadership(garbage: bytes) -> None:
    bench = leader()
    bench.land(garbage, claim_of("c", 7, 99), claim_of("c", 2, -1))
    assert bench.replica.role is Role.LEADER
    assert len(bench.of(m.RecordVoid)) == 3


def test_a_failed_append_ends_leadership() -> None:
    bench = leader()
    bench.feed(OPEN)
    bench.step(m.AppendFailed("timed out"))
    assert isinstance(bench.effects[-1], m.Rebuild)


def test_a_leader_that_lands_records_and_reads_none_back_resigns() -> None:
    bench = leader()
    bench.step(m.AppendAcknowledged(1))  # of the first heartbeat
    bench.feed(OPEN)
    bench.step(m.AppendAcknowledged(1))
    bench.tick(bench.limits.readback_ms - 1)
    assert bench.replica.role is Role.LEADER
    bench.tick(1)
    assert [CODEC.decode(append.value) for append in bench.of(m.Append)] == [Resign(1)]
    assert isinstance(bench.effects[-1], m.Rebuild)


def test_a_leader_cut_off_with_the_broker_away_waits() -> None:
    bench = leader()
    bench.feed(OPEN)  # neither lands nor fails
    bench.tick(20_000)
    assert bench.replica.role is Role.LEADER


def test_a_sink_ahead_of_a_fully_read_journal_halts_the_shard() -> None:
    bench = leader()
    bench.step(m.SinkTail("results", 5))
    (probe,) = bench.of(m.ProbeEnd)
    with pytest.raises(SinkAhead, match="results"):
        bench.step(m.JournalEnd(len(bench.journal), probe.token))


def test_an_end_asked_for_before_a_sink_was_found_ahead_proves_nothing() -> None:
    bench = leader()
    bench.step(m.SinkTail("results", 5))
    (earlier,) = bench.of(m.ProbeEnd)
    bench.step(m.SinkTail("balances", 5))
    (probe,) = bench.of(m.ProbeEnd)
    for token in (None, earlier.token):
        bench.step(m.JournalEnd(len(bench.journal), token))
    with pytest.raises(SinkAhead):
        bench.step(m.JournalEnd(len(bench.journal), probe.token))


def test_an_end_that_the_broker_did_not_tell_is_asked_for_again() -> None:
    bench = leader()
    bench.step(m.SinkTail("results", 5))
    (probe,) = bench.of(m.ProbeEnd)
    bench.step(m.JournalEnd(None, probe.token))
    (again,) = bench.of(m.ProbeEnd)
    assert again.token != probe.token


def test_no_two_heartbeats_of_a_leader_are_equal() -> None:
    bench = leader()
    beats = []
    for _ in range(3):  # barriers of questions that come in the same ms
        bench.step(m.QueryRequested(0, {"account": "x"}, True))
        (beat,) = bench.of(m.Append)
        beats.append(beat.value)
        bench.land(beat.value)
    assert len(set(beats)) == 3


def test_a_sink_ahead_of_a_leader_that_is_deposed_and_has_not_read_it_does_not() -> None:
    bench = leader()
    bench.step(m.SinkTail("results", 5))
    (probe,) = bench.of(m.ProbeEnd)
    bench.step(m.JournalEnd(len(bench.journal) + 1, probe.token))
    depose(bench)
    assert bench.replica.role is Role.STANDBY


def test_reports_of_a_leadership_that_ended_without_a_rebuild_are_not_wanted_any_more() -> None:
    bench = leader()  # its heartbeat was read back; the broker's report has not come
    depose(bench)
    assert bench.of(m.ForgetAppends)


# --- newer releases -------------------------------------------------------------------------


def test_a_replica_halts_at_what_only_a_newer_one_can_read_and_claims_no_more() -> None:
    bench = standby_of()
    newer = {"kind": "format", "epoch": 1, "seq": 0, "format": 2}
    with pytest.raises(NewerFormat, match=r"offset 1 is format 2.*update this one"):
        bench.land(msgspec.json.encode(newer))


def test_a_zombie_of_a_newer_release_halts_nobody() -> None:
    bench = standby_of()
    bench.land(claim_of("c", 2, 0))
    newer = {"kind": "format", "epoch": 1, "seq": 0, "format": 2}
    bench.land(msgspec.json.encode(newer))
    assert [void.kind for void in bench.of(m.RecordVoid)] == ["foreign"]
    assert bench.replica.role is Role.STANDBY


# --- reads, handover, stop ------------------------------------------------------------------


def ask(bench: Bench, *, linearizable: bool) -> list[m.Reply]:
    bench.step(m.QueryRequested("token", {"account": "x"}, linearizable))
    return bench.of(m.Reply)


def test_a_linearizable_read_waits_for_a_record_appended_after_it() -> None:
    bench = leader()
    assert not ask(bench, linearizable=True)
    (barrier,) = bench.of(m.Append)
    bench.land(barrier.value)
    assert [reply.error for reply in bench.of(m.Reply)] == [None]


def test_a_read_of_undecided_state_waits_until_it_is_stable() -> None:
    bench = leader()
    bench.feed(OPEN)
    (entry,) = bench.of(m.Append)
    assert not ask(bench, linearizable=False)
    bench.land(entry.value)
    (reply,) = bench.of(m.Reply)
    assert (reply.result, reply.seq) == (msgspec.Raw(b'{"account":"x","balance":0}'), 0)


def test_answers_held_by_a_deposed_leader_are_refused() -> None:
    bench = leader()
    ask(bench, linearizable=True)
    depose(bench)
    assert [reply.error for reply in bench.of(m.Reply)] == ["not_leader"]


def test_a_standby_answers_only_what_need_not_be_linearizable() -> None:
    bench = standby_of()
    assert [reply.error for reply in ask(bench, linearizable=True)] == ["not_leader"]
    assert [reply.error for reply in ask(bench, linearizable=False)] == [None]


def wait_for(bench: Bench, min_seq: int, timeout_ms: int = 500) -> None:
    bench.step(m.QueryRequested("token", {"account": "x"}, False, min_seq, timeout_ms))
    assert not bench.of(m.Reply)


def test_a_standby_answers_once_it_has_applied_the_command_that_the_reader_has_seen() -> None:
    bench, other = standby_of("a"), leader()
    wait_for(bench, min_seq=0)
    other.feed(OPEN)
    (entry,) = other.of(m.Append)
    bench.land(heartbeat(1))
    assert not bench.of(m.Reply)
    bench.land(entry.value)
    (reply,) = bench.of(m.Reply)
    assert (reply.result, reply.seq) == (msgspec.Raw(b'{"account":"x","balance":0}'), 0)


def test_a_standby_that_stays_behind_says_where_it_is() -> None:
    bench = standby_of()
    wait_for(bench, min_seq=7)
    assert not [reply for _ in range(2) for reply in bench.tick(200) if type(reply) is m.Reply]
    bench.tick(200)
    assert [(reply.error, reply.seq) for reply in bench.of(m.Reply)] == [("behind", -1)]


def test_a_replica_that_ends_refuses_those_who_wait_for_a_state() -> None:
    bench = standby_of()
    wait_for(bench, min_seq=7)
    bench.step(m.StopRequested())
    assert [reply.error for reply in bench.of(m.Reply)] == ["not_ready"]


def test_a_handover_finishes_what_is_in_flight_before_it_resigns() -> None:
    bench = leader()
    for sink in ("results", "balances", "deadletter"):
        bench.step(m.SinkTail(sink, 0))
    bench.feed(OPEN)
    (entry,) = bench.of(m.Append)
    bench.step(m.HandoverRequested("c"))
    assert not bench.of(m.Append)
    bench.land(entry.value)
    bench.step(m.Published("results", 1))
    assert not bench.of(m.Append)
    bench.step(m.Published("balances", 1))
    (resignation,) = bench.of(m.Append)
    assert CODEC.decode(resignation.value) == Resign(1, "c")
    bench.land(resignation.value)
    assert bench.replica.role is Role.STANDBY


def test_a_handover_to_itself_is_no_handover() -> None:
    bench = leader()
    bench.step(m.HandoverRequested("b"))
    assert bench.replica.role is Role.LEADER


@pytest.mark.parametrize("make", [standby_of, Bench])
def test_whoever_does_not_lead_stops_at_once(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.step(m.StopRequested())
    assert isinstance(bench.effects[-1], m.Stopped)


def test_a_stopping_leader_resigns_first_but_not_for_ever() -> None:
    bench = leader()
    bench.step(m.StopRequested())
    bench.tick(bench.limits.resign_ms)
    assert [CODEC.decode(append.value) for append in bench.of(m.Append)] == [Resign(1)]
    bench.tick(bench.limits.stop_ms)
    assert isinstance(bench.effects[-1], m.Stopped)
