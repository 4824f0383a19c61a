"""Bugs in what a leader does about a source or a sink without progress.

See the package's docstring for the format.
"""

from __future__ import annotations

from tests.simulation.planted.planting import Change

IMPAIRMENT: dict[str, Change] = {
    "a sink that stands still is not noticed": (
        "if now_ms >= due_ms:",
        "if now_ms < moved_ms:",
    ),
    "a source that stands still is not noticed": (
        'self._sources[topic] = f"source {topic}: {reason}"',
        "pass",
    ),
    "a source that moves again still stands still": (
        "self._sources.pop(topic, None)",
        "pass",
    ),
    "a sink stands still while Kafka is unavailable": (
        "if now_ms - self._read_back_ms >= JOURNAL_GAP_MS:",
        "if now_ms < self._read_back_ms:",
        "Stalls._find",
    ),
    "an outage of Kafka counts as a stall": (
        "self._since_ms = now_ms",
        "pass",
    ),
    "a sink with nothing to publish stands still": (
        "self._moved_ms[sink] = now_ms",
        "pass",
        "Stalls._find",
    ),
    "an acknowledgement is no progress": (
        "self._moved_ms[sink] = now_ms",
        "pass",
        "Stalls.on_published",
    ),
    "an impaired leader resigns again and again": (
        "if not impairment.is_present(now_ms):",
        "if reason:",
    ),
    "the end of an impairment is not announced": (
        "self.due_ms = impairment.until_ms",
        "pass",
    ),
    "a stall is not announced": (
        "self.due_ms = due_ms if self.due_ms is None else min(self.due_ms, due_ms)",
        "pass",
    ),
    "an impairment remains although nothing stands still": (
        "impairment.end()",
        "pass",
    ),
}

REPLICA: dict[str, Change] = {
    "an impaired replica claims at once": (
        "waits = self._now_ms < self._may_claim_from_ms(suspicion)",
        "waits = False",
    ),
    "an impaired replica is excluded": (
        "grace_ends_ms = suspicion.since_ms + grace_ms",
        "grace_ends_ms = suspicion.since_ms + 1_000_000",
    ),
    "elections in which every entry is refused go on at full speed": (
        "grace_ms = self._limits.impaired_grace_ms * self._impairment.weight",
        "grace_ms = self._limits.impaired_grace_ms",
    ),
    "a leader whose entry is refused is not impaired": (
        "self._impairment.begin(reason, self._now_ms, self._limits.impaired_ms)",
        "pass",
    ),
    "the claim of an impaired replica is not announced": (
        "due_ms.append(from_ms)",
        "pass",
    ),
    "a leader without progress only says so": (
        'self._resign_when_done(None, f"no progress: {stall}")',
        "pass",
    ),
}

LEADERSHIP: dict[str, Change] = {
    "a resigning leader leaves no marks": (
        "if not self.inflight and self._published() != self._marks:",
        "if not self._marks:",
    ),
}
