"""A leader whose sources or sinks make no progress while the journal does."""

from __future__ import annotations

import pytest

from postjournal.core import messages as m
from postjournal.core.limits import Limits
from postjournal.core.liveness.impairment import LONGEST, OVER, Impairment
from postjournal.core.records import Resign
from postjournal.core.roles import Role
from tests.support.stepped_replica import CODEC, FEED, OPEN, SteppedReplica, claim_of, leader

LIMITS = Limits()
STALLED = m.SourceStalled(FEED, "cannot be reached")


def read_back(replica: SteppedReplica) -> None:
    """Deliver what it has appended, and what follows from that."""
    while values := [append.value for append in replica.of(m.Append)]:
        replica.deliver(*values)


def beat(replica: SteppedReplica, for_ms: int) -> None:
    """Let time pass while the leader's own records are read back."""
    for _ in range(for_ms // 100):
        replica.tick(100)
        read_back(replica)


def tails(replica: SteppedReplica) -> None:
    for sink in ("results", "balances", "deadletter"):
        replica.step(m.SinkTail(sink, 0))
        read_back(replica)


def resigns(replica: SteppedReplica, within_ms: int) -> bool:
    """Whether it decides to leave the office within this time; then it has left it."""
    read_back(replica)
    for _ in range(within_ms // 100):
        beat(replica, 100)
        if replica.core.role is not Role.LEADER:
            while replica.core.role is Role.RESIGNING:
                beat(replica, 100)
            assert replica.core.role is Role.STANDBY
            return True
    return False


def test_a_leader_that_publishes_nothing_resigns() -> None:
    replica = leader()
    tails(replica)
    replica.feed(OPEN)
    replica.deliver(replica.only(m.Append).value)
    assert not resigns(replica, LIMITS.stall_ms - 500)
    assert resigns(replica, 1_000)
    assert "sink results: nothing was acknowledged" in str(replica.core.impaired_reason)


def test_a_leader_whose_sink_cannot_be_opened_resigns() -> None:
    assert resigns(leader(), LIMITS.stall_ms + 500)


def test_a_slow_sink_makes_progress() -> None:
    replica = leader()
    tails(replica)
    commands = [OPEN | {"id": f"{n}", "account": f"a{n}"} for n in range(20)]
    replica.feed(*commands)
    replica.deliver(replica.only(m.Append).value)
    replica.step(m.Published("balances", 20))
    for published in range(1, 20):
        replica.step(m.Published("results", published))
        assert not resigns(replica, LIMITS.stall_ms - 1_000)


def test_a_leader_that_does_not_receive_a_source_resigns_at_once() -> None:
    replica = leader()
    tails(replica)
    replica.step(STALLED)
    assert resigns(replica, 200)
    assert replica.core.impaired_reason == f"source {FEED}: cannot be reached"


def test_while_the_journal_makes_no_progress_there_is_no_stall() -> None:
    """Kafka is unavailable; after the outage all time counts anew."""
    replica = leader()
    tails(replica)
    replica.tick(100)
    late = replica.only(m.Append)
    for _ in range(10):
        replica.step(STALLED, after_ms=LIMITS.stall_ms)
        assert replica.core.role is Role.LEADER
    replica.deliver(late.value)
    read_back(replica)
    assert not resigns(replica, 2_000)
    replica.step(STALLED)
    assert resigns(replica, 200)


@pytest.fixture
def impaired() -> SteppedReplica:
    """A standby that resigned for lack of progress; the office is vacant."""
    replica = leader()
    tails(replica)
    replica.step(STALLED)
    assert resigns(replica, 200)
    return replica


def claims_after_ms(replica: SteppedReplica) -> int:
    began_ms = replica.now
    while replica.now - began_ms < 10_000:
        if replica.of(m.AppendClaim):
            return replica.now - began_ms
        if replica.of(m.ProbeEnd):
            replica.step(m.JournalEnd(len(replica.journal)))
        else:
            replica.tick(50)
    raise AssertionError("no claim")


def test_an_impaired_standby_leaves_a_dead_leaders_office_to_others(
    impaired: SteppedReplica,
) -> None:
    impaired.deliver(claim_of("c", 2, len(impaired.journal) - 1))
    impaired.step(m.TripwireFired(2))
    assert claims_after_ms(impaired) == LIMITS.impaired_grace_ms


def test_an_impaired_standby_that_the_leader_has_named_claims_at_once(
    impaired: SteppedReplica,
) -> None:
    impaired.deliver(claim_of("c", 2, len(impaired.journal) - 1))
    impaired.deliver(CODEC.encode(Resign(2, "b")))
    assert claims_after_ms(impaired) == 0


def lead_again(replica: SteppedReplica) -> None:
    """Nobody else claims."""
    claims_after_ms(replica)
    replica.deliver(replica.only(m.AppendClaim).value)
    assert replica.core.role is Role.LEADER
    read_back(replica)
    tails(replica)


def test_when_all_are_impaired_one_leads_and_stays(impaired: SteppedReplica) -> None:
    lead_again(impaired)
    impaired.step(STALLED)
    assert not resigns(impaired, LIMITS.impaired_ms - 5_000)
    assert impaired.core.impaired_reason is not None


def test_it_tries_again_later_and_later(impaired: SteppedReplica) -> None:
    lengths = []
    for _ in range(6):
        began_ms = impaired.now
        lead_again(impaired)
        impaired.step(STALLED)
        assert resigns(impaired, 2 * LONGEST * LIMITS.impaired_ms)
        lengths.append((impaired.now - began_ms) / LIMITS.impaired_ms)
    assert [round(length) for length in lengths] == [1, 2, 4, 8, 10, 10]


def test_it_is_no_longer_impaired_when_it_leads_and_nothing_stalls(
    impaired: SteppedReplica,
) -> None:
    lead_again(impaired)
    beat(impaired, (OVER + 1) * LIMITS.stall_ms)
    assert impaired.core.impaired_reason is None


def test_a_replica_whose_entries_are_refused_claims_later_each_time() -> None:
    replica = leader()
    waited = []
    for number in range(6):
        replica.feed(OPEN | {"id": f"{number}", "account": f"a{number}"}, offset=number)
        replica.step(m.AppendFailed("too large", is_refused=True))
        assert replica.core.role is Role.REBUILDING
        assert replica.core.impaired_reason == "the journal refuses a record: too large"
        replica = again(replica)
        waited.append(claims_after_ms(replica) - LIMITS.silence_ms)
        lead_again(replica)
    grace_ms = LIMITS.impaired_grace_ms
    assert [ms // grace_ms for ms in waited] == [1, 2, 4, 8, 10, 10]


def test_an_append_that_only_failed_impairs_nobody() -> None:
    replica = leader()
    replica.step(m.AppendFailed("timed out"))
    assert replica.core.impaired_reason is None


def again(before: SteppedReplica) -> SteppedReplica:
    """The next incarnation of a replica that rebuilds, with the same journal, in sync."""
    name = before.core.identity.replica + "b"  # and so is the incarnation's
    replica = SteppedReplica(name, impairment=before.core._impairment, now=before.now)
    replica.step(m.JournalEnd(len(before.journal)))
    replica.deliver(*before.journal)
    return replica


def test_one_long_after_the_last_is_as_short_as_the_first() -> None:
    impairment = Impairment()
    impairment.begin("a", 0, first_ms=100)
    impairment.begin("b", 100, first_ms=100)
    assert impairment.until_ms == 300
    impairment.begin("c", 501, first_ms=100)
    assert impairment.until_ms == 601
