"""When a standby suspects its leader: `core.liveness.failure_detector`, without a replica."""

from __future__ import annotations

import pytest

from postjournal.core.fold import JournalState
from postjournal.core.limits import Limits
from postjournal.core.liveness.failure_detector import FailureDetector, LifeSign, Suspicion
from postjournal.core.records import Claim
from postjournal.core.roles import Cause, Identity
from postjournal.core.sharding import ShardPlace

LIMITS = Limits()
IN_SYNC_MS = 1_000
POSITION = 7


def detector() -> FailureDetector:
    """Of a standby that came into sync at `IN_SYNC_MS`."""
    made = FailureDetector(Identity("b", "b-1", "host-b:1", ShardPlace(0, 1)), LIMITS)
    made.restart_silence(IN_SYNC_MS)
    return made


def led_by(replica: str, *, resigned: bool = False, successor: str | None = None) -> JournalState:
    claim = Claim(1, replica, f"{replica}-1", f"host-{replica}:1", -1)
    return JournalState(
        epoch=1, leader=claim.incarnation, claim=claim, resigned=resigned, successor=successor
    )


LED = led_by("a")


def cause_of(suspicion: Suspicion | None) -> Cause | None:
    return suspicion.cause if suspicion else None


def test_a_leader_that_shows_life_is_not_suspected() -> None:
    found = detector()
    for now_ms in range(IN_SYNC_MS, IN_SYNC_MS + 5_000, LIMITS.heartbeat_ms):
        found.on_sign_of_life(now_ms, resigned=False)
        assert found.check(LED, now_ms + LIMITS.heartbeat_ms) is None


def test_silence_is_suspected_after_the_limit_and_not_before() -> None:
    found = detector()
    assert found.check(LED, IN_SYNC_MS + LIMITS.silence_ms - 1) is None
    late_ms = IN_SYNC_MS + LIMITS.silence_ms
    assert found.check(LED, late_ms) == Suspicion(Cause.SILENCE, late_ms, IN_SYNC_MS, "a")


def test_silence_is_no_reason_to_claim_until_the_journal_is_known_to_be_read() -> None:
    found, late_ms = detector(), IN_SYNC_MS + LIMITS.silence_ms
    suspicion = found.check(LED, late_ms)
    assert suspicion is not None
    assert not found.may_claim(suspicion)
    found.on_journal_end(POSITION + 1, POSITION, late_ms)  # one record is not read yet
    assert not found.may_claim(suspicion)
    found.on_journal_end(POSITION, POSITION, late_ms)
    assert found.may_claim(suspicion)


def test_after_an_outage_of_kafka_the_leader_has_the_whole_limit_again() -> None:
    found, back_ms = detector(), IN_SYNC_MS + 10_000
    found.on_journal_end(None, POSITION, IN_SYNC_MS + 500)
    found.on_journal_end(POSITION, POSITION, back_ms)
    assert found.check(LED, back_ms + LIMITS.silence_ms - 1) is None
    suspicion = found.check(LED, back_ms + LIMITS.silence_ms)
    assert suspicion is not None
    assert not found.may_claim(suspicion)


def test_a_fired_tripwire_is_suspected_at_once_and_needs_no_confirmation() -> None:
    found = detector()
    found.on_tripwire(IN_SYNC_MS + 1)
    suspicion = found.check(LED, IN_SYNC_MS + 1)
    assert cause_of(suspicion) is Cause.TRIPWIRE
    assert suspicion is not None
    assert found.may_claim(suspicion)


def test_records_in_flight_when_the_process_died_do_not_clear_its_tripwire() -> None:
    found = detector()
    found.on_tripwire(IN_SYNC_MS)
    soon_ms = IN_SYNC_MS + LIMITS.tripwire_grace_ms - 1
    assert found.on_sign_of_life(soon_ms, resigned=False) == LifeSign(False, False)
    assert cause_of(found.check(LED, soon_ms)) is Cause.TRIPWIRE


def test_a_record_after_the_grace_clears_the_tripwire_and_ends_the_suspicion() -> None:
    found = detector()
    found.on_tripwire(IN_SYNC_MS)
    found.check(LED, IN_SYNC_MS)
    later_ms = IN_SYNC_MS + LIMITS.tripwire_grace_ms
    assert found.on_sign_of_life(later_ms, resigned=False) == LifeSign(True, True)
    assert found.check(LED, later_ms) is None


def test_a_resignation_ends_no_suspicion() -> None:
    found = detector()
    found.on_tripwire(IN_SYNC_MS)
    found.check(LED, IN_SYNC_MS)
    later_ms = IN_SYNC_MS + LIMITS.tripwire_grace_ms
    assert not found.on_sign_of_life(later_ms, resigned=True).ends_suspicion


def test_a_shard_without_a_leader_is_claimed_at_once() -> None:
    found = detector()
    suspicion = found.check(JournalState(), IN_SYNC_MS)
    assert suspicion == Suspicion(Cause.NO_LEADER, IN_SYNC_MS, IN_SYNC_MS, None)
    assert found.may_claim(suspicion)


@pytest.mark.parametrize(
    ("leader", "successor", "backoff_ms"),
    [
        ("a", None, 0),
        ("a", "b", 0),
        ("a", "c", LIMITS.successor_grace_ms),
        ("b", None, LIMITS.silence_ms),  # this replica has resigned: others go first
    ],
)
def test_a_resigned_leadership_is_left_to_its_successor(
    leader: str, successor: str | None, backoff_ms: int
) -> None:
    found, journal = detector(), led_by(leader, resigned=True, successor=successor)
    if backoff_ms:
        assert found.check(journal, IN_SYNC_MS + backoff_ms - 1) is None
    assert cause_of(found.check(journal, IN_SYNC_MS + backoff_ms)) is Cause.RESIGNED


def test_a_suspicion_keeps_its_time_while_its_cause_lasts() -> None:
    found, first_ms = detector(), IN_SYNC_MS + LIMITS.silence_ms
    first = found.check(LED, first_ms)
    assert found.check(LED, first_ms + 300) is first
    found.on_tripwire(first_ms + 400)
    stronger = found.check(LED, first_ms + 400)
    assert stronger == Suspicion(Cause.TRIPWIRE, first_ms + 400, IN_SYNC_MS, "a")


def test_a_new_leader_answers_the_suspicion_and_starts_with_none() -> None:
    found = detector()
    found.on_tripwire(IN_SYNC_MS)
    suspicion = found.check(LED, IN_SYNC_MS)
    assert found.on_new_leader(IN_SYNC_MS + 20) is suspicion
    assert found.check(led_by("c"), IN_SYNC_MS + 20) is None
    assert found.on_new_leader(IN_SYNC_MS + 30) is None


def test_a_claim_is_lost_after_the_limit_and_silence_must_be_confirmed_again() -> None:
    found, late_ms = detector(), IN_SYNC_MS + LIMITS.silence_ms
    suspicion = found.check(LED, late_ms)
    assert suspicion is not None
    found.on_journal_end(POSITION, POSITION, late_ms)
    found.on_claimed(late_ms)
    assert not found.is_claim_lost(late_ms + LIMITS.claim_retry_ms - 1)
    found.on_journal_end(POSITION, POSITION, late_ms)
    assert found.is_claim_lost(late_ms + LIMITS.claim_retry_ms)
    assert not found.may_claim(suspicion)


def test_the_journals_end_is_asked_for_once_in_a_while() -> None:
    found = detector()
    times = range(IN_SYNC_MS, IN_SYNC_MS + 1_000)
    asked = [now_ms for now_ms in times if found.take_probe(now_ms)]
    assert asked == list(times)[:: LIMITS.probe_retry_ms]
