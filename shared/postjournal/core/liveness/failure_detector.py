"""When a standby suspects its leader, and when the suspicion is good enough for a claim.

Suspicion is cheap: the fold voids a claim when the leader has shown life since what the claimant
had read (docs/protocol.md). So time-outs are short, and nothing here is needed for safety.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from postjournal.core.fold import JournalState
from postjournal.core.limits import Limits
from postjournal.core.roles import Cause, Identity


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why and since when the leader is suspected. Times in ms of the monotonic clock.

    `last_sign_of_life_ms`: when the leader's last accepted record was read; `previous`: the
    leader's name, None when the shard never had one.
    """

    cause: Cause
    since_ms: int
    last_sign_of_life_ms: int
    previous: str | None


class LifeSign(NamedTuple):
    """What an accepted record of the leader changes for a standby."""

    rearm_tripwire: bool
    ends_suspicion: bool


class FailureDetector:
    """One standby's view of its leader; level-triggered: `check` is evaluated after each message.

    There are four causes: no leader, a resigned one, a fired tripwire, and silence. Silence alone
    needs a confirmation by the journal's end, which proves that Kafka answers and that everything
    has been read: a standby that is cut off from Kafka, or far behind, hears nothing either.
    """

    __slots__ = (
        "_broker_unavailable",
        "_claimed_ms",
        "_identity",
        "_last_sign_of_life_ms",
        "_limits",
        "_probe_due_ms",
        "_silence_confirmed",
        "_suspicion",
        "_tripwire_fired_ms",
    )

    def __init__(self, identity: Identity, limits: Limits) -> None:
        self._identity, self._limits = identity, limits
        self._last_sign_of_life_ms = 0
        self._tripwire_fired_ms: int | None = None
        self._suspicion: Suspicion | None = None
        self._broker_unavailable = False
        self._silence_confirmed = False
        self._probe_due_ms = 0
        self._claimed_ms = 0

    def restart_silence(self, now_ms: int) -> None:
        """Count silence from now: the replica has just come into sync, or has ceased to lead."""
        self._last_sign_of_life_ms = now_ms

    # --- what happens -----------------------------------------------------------------------

    def on_new_leader(self, now_ms: int) -> Suspicion | None:
        """A claim was accepted; returns the suspicion that it answers, if there was one."""
        suspicion, self._suspicion = self._suspicion, None
        self._tripwire_fired_ms, self._silence_confirmed = None, False
        self._broker_unavailable = False
        self._last_sign_of_life_ms = now_ms
        return suspicion

    def on_sign_of_life(self, now_ms: int, *, resigned: bool) -> LifeSign:
        """An accepted record of the leader was read. `resigned`: by that record or before it.

        A tripwire outlasts records that follow it within `tripwire_grace_ms`: they were in flight
        when the leader's process died.
        """
        self._last_sign_of_life_ms = now_ms
        self._broker_unavailable = self._silence_confirmed = False
        fired_ms, self._tripwire_fired_ms = self._tripwire_fired_ms, None
        if fired_ms is not None and now_ms - fired_ms < self._limits.tripwire_grace_ms:
            self._tripwire_fired_ms = fired_ms
            return LifeSign(rearm_tripwire=False, ends_suspicion=False)
        ends_suspicion = self._suspicion is not None and not resigned
        if ends_suspicion:
            self._suspicion = None
        return LifeSign(fired_ms is not None, ends_suspicion)

    def on_tripwire(self, now_ms: int) -> None:
        """The connection to the current leader closed, and a reconnect did not succeed."""
        self._tripwire_fired_ms = now_ms

    def on_journal_end(self, end: int | None, position: int, now_ms: int) -> None:
        """Kafka answered a probe with the journal's `end`, or (None) did not answer.

        `position`: of the next record to read. After an outage the leader has the whole of
        `silence_ms` again to reach Kafka.
        """
        if end is None:
            self._broker_unavailable = True
        elif self._broker_unavailable:
            self._broker_unavailable = False
            self._last_sign_of_life_ms = now_ms
        elif end <= position:
            self._silence_confirmed = True

    # --- what follows -----------------------------------------------------------------------

    def check(self, journal: JournalState, now_ms: int) -> Suspicion | None:
        """The suspicion that holds now, or None; its cause is the strongest one at hand."""
        cause = self._cause(journal, now_ms)
        if cause is None:
            return None
        if self._suspicion is None or self._suspicion.cause is not cause:
            previous = journal.claim.replica if journal.claim else None
            self._suspicion = Suspicion(cause, now_ms, self._last_sign_of_life_ms, previous)
        return self._suspicion

    def may_claim(self, suspicion: Suspicion) -> bool:
        """Whether a claim may be appended now."""
        return suspicion.cause is not Cause.SILENCE or self._silence_confirmed

    def on_claimed(self, now_ms: int) -> None:
        """A claim was appended."""
        self._claimed_ms = now_ms
        self._silence_confirmed = False

    def is_claim_lost(self, now_ms: int) -> bool:
        """Whether the last claim has not been read back for so long that it is repeated."""
        if now_ms - self._claimed_ms < self._limits.claim_retry_ms:
            return False
        self._silence_confirmed = False
        return True

    def take_probe(self, now_ms: int) -> bool:
        """Whether the journal's end is to be asked for now; True at most once in a while."""
        if now_ms < self._probe_due_ms:
            return False
        self._probe_due_ms = now_ms + self._limits.probe_retry_ms
        return True

    def next_due_ms(self, journal: JournalState, now_ms: int, *, is_claiming: bool) -> int:
        """When `check` or what follows from it changes next, if nothing is read until then."""
        cause = self._cause(journal, now_ms)
        if cause is None:
            wait_ms = self._limits.silence_ms
            if journal.resigned:
                wait_ms = self._claim_backoff_ms(journal)
            return self._last_sign_of_life_ms + wait_ms
        if is_claiming:
            return self._claimed_ms + self._limits.claim_retry_ms
        return self._probe_due_ms

    @property
    def suspicion(self) -> Suspicion | None:
        """The one that `check` returned last, unless a sign of life has ended it."""
        return self._suspicion

    @property
    def probe_due_ms(self) -> int:
        """When the journal's end may be asked for again."""
        return self._probe_due_ms

    def _cause(self, journal: JournalState, now_ms: int) -> Cause | None:
        silent_ms = now_ms - self._last_sign_of_life_ms
        if journal.leader is None:
            return Cause.NO_LEADER
        if journal.resigned:
            return Cause.RESIGNED if silent_ms >= self._claim_backoff_ms(journal) else None
        if self._tripwire_fired_ms is not None:
            return Cause.TRIPWIRE
        return Cause.SILENCE if silent_ms >= self._limits.silence_ms else None

    def _claim_backoff_ms(self, journal: JournalState) -> int:
        """How long a vacant leadership is left to other replicas."""
        if journal.leader == self._identity.incarnation:
            return self._limits.silence_ms  # this replica has just resigned it
        if journal.successor in (None, self._identity.replica):
            return 0
        return self._limits.successor_grace_ms
