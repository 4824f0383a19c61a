"""Bugs of the fold and of a replica's roles.

`(right, wrong)` by what goes wrong: see `bugs`.
"""

from __future__ import annotations

FOLD = {
    "a claim need not have seen that the leader lives": (
        "claim.epoch != self.epoch + 1 or claim.seen < self.alive_at",
        "claim.epoch != self.epoch + 1",
    ),
    "a claim may have missed the leader's last record": (
        "claim.seen < self.alive_at",
        "claim.seen < self.alive_at - 1",
    ),
    "a claim does not show life": (
        "self.alive_at = claim.epoch, claim.incarnation, offset",
        "self.alive_at = claim.epoch, claim.incarnation, self.alive_at",
    ),
    "a new leader counts as resigned": (
        "self.resigned, self.successor, self.claim = False, None, claim",
        "self.successor, self.claim = None, claim",
    ),
    "an entry of a leader that has resigned counts": (
        "epoch == self.epoch and self.leader is not None and not self.resigned",
        "epoch == self.epoch and self.leader is not None",
    ),
    "an entry of an earlier epoch counts": (
        "return epoch == self.epoch and self.leader",
        "return epoch <= self.epoch and self.leader",
    ),
    "an entry over a gap counts": (
        "is_current and entry.seq == self.next_seq and bool(entry.batch)",
        "is_current and entry.seq >= self.next_seq and bool(entry.batch)",
    ),
    "an entry with no command counts": (
        "entry.seq == self.next_seq and bool(entry.batch)",
        "entry.seq == self.next_seq",
    ),
    "the running hash is not compared": (
        "if entry.digest_before != self.digest:",
        "if not entry.digest_before:",
    ),
    "the running hash does not run": (
        'blake2b(digest.encode("ascii"), digest_size=16)',
        "blake2b(digest_size=16)",
    ),
    "an entry does not show life": (
        "        self.alive_at = offset\n        self.next_seq +=",
        "        self.next_seq +=",
    ),
    "a heartbeat with another seq counts": (
        "if not self._is_current_leader(heartbeat.epoch) or heartbeat.seq != self.next_seq:",
        "if not self._is_current_leader(heartbeat.epoch):",
    ),
    "a resignation of an earlier epoch counts": (
        "if resign.epoch != self.epoch or self.leader is None:",
        "if self.leader is None:",
    ),
    "a mark falls": (
        "if next_seq > marks.get(sink, 0):",
        "if next_seq != marks.get(sink, 0):",
    ),
}

REPLICA = {
    "a claim tells more than was read": (
        "seen=self.position - 1,",
        "seen=self.position,",
    ),
    "a void record changes the replica": (
        "            if verdict is Verdict.ACCEPTED:",
        "            if verdict is not Verdict.DIGEST_MISMATCH:",
    ),
    "a leader is known by its name": (
        "        if claim.incarnation == self.incarnation:\n            self._lead(suspicion)",
        "        if claim.replica == self.identity.replica:\n            self._lead(suspicion)",
    ),
    "a leader goes on after another's claim": (
        '            self._end_leadership(f"{claim.replica} leads epoch {claim.epoch}")\n',
        "            pass\n",
    ),
    "a leader goes on after an accepted entry that is not its own": (
        'self._end_leadership("an entry that this leader has not written was accepted")',
        "pass",
    ),
    "a leader does not take in an accepted entry that is not its own": (
        "                if self.role is not Role.STANDBY:\n                    return\n"
        "            self.machine",
        "                return\n            self.machine",
    ),
    "a failed append is taken for a landed one": (
        '            self._end_leadership(f"an append failed: {message.error}")',
        "            self.leadership.on_acknowledged(1)",
    ),
    "a deposed leader keeps what never counted": (
        "elif leadership.has_unconfirmed_entries:",
        "elif False:",
    ),
    "a deposed leader goes on publishing": (
        "[m.CloseSources(), m.CloseSinks(), *",
        "[m.CloseSources(), *",
    ),
    "a deposed leader goes on reading its sources": (
        "[m.CloseSources(), m.CloseSinks(), *",
        "[m.CloseSinks(), *",
    ),
    "a deposed leader answers nothing that it was asked": (
        "m.CloseSinks(), *leadership.refuse_answers()]",
        "m.CloseSinks()]",
    ),
    "the failure of an earlier leadership's append ends a later one": (
        "            self._effects.append(m.ForgetAppends())\n",
        "",
    ),
    "somebody else's void record ends the leadership": (
        "elif own is not None:  # a record that was appended twice",
        "elif self.leadership is not None:  #",
    ),
    "a retry that landed twice ends the leadership": (
        "elif own is not None:  # a record that was appended twice",
        'elif self.leadership and getattr(record, "epoch", 0) == self.leadership.epoch:  #',
    ),
    "a gap in its own records does not end a leadership": (
        "elif own is not None:  # a record that was appended twice",
        "elif False:  #",
    ),
    "a tripwire of an earlier leader counts": (
        "if message.epoch == self.journal.epoch and self.leadership is None:",
        "if self.leadership is None:",
    ),
    "a command is left out at a takeover": (
        "m.OpenSources(dict(self.machine.sources))",
        "m.OpenSources({t: o + 1 for t, o in self.machine.sources.items()})",
    ),
    "a record is left out after a restore": (
        "self.position = image.offset + 1",
        "self.position = image.offset + 2",
    ),
    "a record is read again after a restore": (
        "self.position = image.offset + 1",
        "self.position = image.offset",
    ),
    "published outputs are kept for ever": (
        "        self.machine.forget(self.journal.published)\n",
        "",
    ),
}

DETECTOR = {
    "silence is not confirmed by the journal's end": (
        "return suspicion.cause is not Cause.SILENCE or self._silence_confirmed",
        "return True",
    ),
    "an unread journal confirms silence": (
        "        elif end <= position:\n            self._silence_confirmed = True",
        "        else:\n            self._silence_confirmed = True",
    ),
    "a sign of life does not end the silence": (
        "        self._last_sign_of_life_ms = now_ms\n"
        "        self._broker_unavailable = self._silence_confirmed = False\n",
        "        self._broker_unavailable = self._silence_confirmed = False\n",
    ),
    "suspicion outlives the suspected leader": (
        "self._tripwire_fired_ms, self._silence_confirmed = None, False",
        "self._silence_confirmed = False",
    ),
    "a lost claim is never repeated": (
        "if now_ms - self._claimed_ms < self._limits.claim_retry_ms:",
        "if self._claimed_ms:",
    ),
}
