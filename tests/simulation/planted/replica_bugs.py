"""Bugs of the fold and of a replica's roles. See the package's docstring for the format."""

from __future__ import annotations

from tests.simulation.planted.planting import Change

FOLD: dict[str, Change] = {
    "a claim is accepted although the leader is alive": (
        "claim.epoch != self.epoch + 1 or claim.seen < self.alive_at",
        "claim.epoch != self.epoch + 1",
    ),
    "a claim is accepted that missed the leader's last record": (
        "claim.seen < self.alive_at",
        "claim.seen < self.alive_at - 1",
    ),
    "a claim is not a sign of life": (
        "self.alive_at = claim.epoch, claim.incarnation, offset",
        "self.alive_at = claim.epoch, claim.incarnation, self.alive_at",
    ),
    "a new leader counts as resigned": (
        "self.resigned, self.successor, self.claim = False, None, claim",
        "self.successor, self.claim = None, claim",
    ),
    "an entry of a resigned leader is accepted": (
        "epoch == self.epoch and self.leader is not None and not self.resigned",
        "epoch == self.epoch and self.leader is not None",
    ),
    "an entry of an earlier epoch is accepted": (
        "return epoch == self.epoch and self.leader",
        "return epoch <= self.epoch and self.leader",
    ),
    "an entry over a gap is accepted": (
        "entry.seq == self.next_seq and bool(entry.batch)",
        "entry.seq >= self.next_seq and bool(entry.batch)",
    ),
    "an entry without commands is accepted": (
        "entry.seq == self.next_seq and bool(entry.batch)",
        "entry.seq == self.next_seq",
    ),
    "the digest is not compared": (
        "if entry.digest_before != self.digest:",
        "if not entry.digest_before:",
    ),
    "the digest does not include the one before": (
        'blake2b(digest.encode("ascii"), digest_size=16)',
        "blake2b(digest_size=16)",
    ),
    "an entry is not a sign of life": (
        "self.alive_at = offset\nself.next_seq +=",
        "self.next_seq +=",
    ),
    "a heartbeat with another seq is accepted": (
        "if not self._is_current_leader(heartbeat.epoch) or heartbeat.seq != self.next_seq:",
        "if not self._is_current_leader(heartbeat.epoch):",
    ),
    "a resignation of an earlier epoch is accepted": (
        "if resign.epoch != self.epoch or self.leader is None:",
        "if self.leader is None:",
    ),
    "a mark decreases": (
        "if next_seq > marks.get(sink, 0):",
        "if next_seq != marks.get(sink, 0):",
    ),
}

REPLICA: dict[str, Change] = {
    "a claim carries an offset that was not read": (
        "seen=self.position - 1",
        "seen=self.position",
    ),
    "a void record changes the replica": (
        "if verdict is Verdict.ACCEPTED:",
        "if verdict is not Verdict.DIGEST_MISMATCH:",
    ),
    "a replica recognizes its claim by the replica's name": (
        "if claim.incarnation == self.incarnation:",
        "if claim.replica == self.identity.replica:",
        "Replica._on_new_leader",
    ),
    "a leader continues after another replica's claim": (
        'self._end_leadership(f"{claim.replica} leads epoch {claim.epoch}")',
        "",
    ),
    "a leader continues after a forged entry was accepted": (
        'self._end_leadership("an entry that this leader has not written was accepted")',
        "",
    ),
    "a leader does not apply an accepted forged entry": (
        "if self.role is not Role.STANDBY:\n    return",
        "return",
        "Replica._on_accepted",
    ),
    "a failed append counts as acknowledged": (
        'self._end_leadership(f"an append failed: {message.error}")',
        "self.leadership.on_acknowledged(1)",
    ),
    "a deposed leader keeps void entries in its state": (
        "elif leadership.has_unconfirmed_entries:",
        "elif False:",
    ),
    "a deposed leader continues to publish": (
        "[m.CloseSources(), m.CloseSinks(), *",
        "[m.CloseSources(), *",
    ),
    "a deposed leader continues to read its sources": (
        "[m.CloseSources(), m.CloseSinks(), *",
        "[m.CloseSinks(), *",
    ),
    "a deposed leader does not answer pending queries": (
        "m.CloseSinks(), *leadership.refuse_answers()]",
        "m.CloseSinks()]",
    ),
    "a failed append of an earlier leadership ends a later one": (
        "self._effects.append(m.ForgetAppends())",
        "",
    ),
    "another process's void record ends the leadership": (
        "elif own is not None:",
        "elif self.leadership is not None:",
    ),
    "an append that landed twice ends the leadership": (
        "elif own is not None:",
        'elif self.leadership and getattr(record, "epoch", 0) == self.leadership.epoch:',
    ),
    "a gap in its own records does not end a leadership": (
        "elif own is not None:",
        "elif False:",
    ),
    "a command is skipped at a takeover": (
        "m.OpenSources(dict(self.machine.sources))",
        "m.OpenSources({t: o + 1 for t, o in self.machine.sources.items()})",
    ),
    "a record is skipped after a restore": (
        "self.position = image.offset + 1",
        "self.position = image.offset + 2",
    ),
    "a record is read twice after a restore": (
        "self.position = image.offset + 1",
        "self.position = image.offset",
    ),
    "published outputs are kept": (
        "self.machine.forget(self.journal.published)",
        "",
    ),
    "a tripwire of an earlier leader is used": (
        "if message.epoch == self.journal.epoch and self.leadership is None:",
        "if self.leadership is None:",
    ),
    "the probe of a restored replica is not announced": (
        "elif self.role is Role.RESTORING and self._journal_is_open:\n"
        "    due_ms.append(self._detector.probe_due_ms)",
        "",
    ),
    "the time-out of a query is not announced": (
        "due_ms = [self._stop_deadline_ms, self._reads.deadline_ms]",
        "due_ms = [self._stop_deadline_ms]",
    ),
}

DETECTOR: dict[str, Change] = {
    "silence is not confirmed by the journal's end": (
        "return suspicion.cause is not Cause.SILENCE or self._silence_confirmed",
        "return True",
    ),
    "an unread journal confirms silence": (
        "elif end <= position:\n    self._silence_confirmed = True",
        "else:\n    self._silence_confirmed = True",
    ),
    "a sign of life does not end the silence": (
        "self._last_sign_of_life_ms = now_ms",
        "",
        "FailureDetector.on_sign_of_life",
    ),
    "suspicion outlives the suspected leader": (
        "self._tripwire_fired_ms, self._silence_confirmed = None, False",
        "self._silence_confirmed = False",
    ),
    "a lost claim is never repeated": (
        "if now_ms - self._claimed_ms < self._limits.claim_retry_ms:",
        "if self._claimed_ms:",
    ),
    "the end of a leader's silence is not announced": (
        "return self._last_sign_of_life_ms + wait_ms",
        "return self._last_sign_of_life_ms + 3_600_000",
    ),
    "a resigned leader's successor waits as for a silent one": (
        "if journal.resigned:\n    wait_ms = self._claim_backoff_ms(journal)",
        "",
        "FailureDetector.next_due_ms",
    ),
    "the repetition of a lost claim is not announced": (
        "return self._claimed_ms + self._limits.claim_retry_ms",
        "return now_ms + 3_600_000",
    ),
    "the next probe of the journal's end is not announced": (
        "return self._probe_due_ms",
        "return now_ms + 3_600_000",
        "FailureDetector.next_due_ms",
    ),
}
