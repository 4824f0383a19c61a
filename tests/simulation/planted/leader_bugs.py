"""Bugs of a leader: what it decides ahead, what it publishes, what it answers.

`(right, wrong)` by what goes wrong: see `bugs`.
"""

from __future__ import annotations

LEADERSHIP = {
    "life is shown while a record is not read back": (
        "if self.inflight or self.resigned:",
        "if self.resigned:",
    ),
    "whatever is decided leaves with the first entry that is stable": (
        "for sink, end in own.sink_ends.items():",
        "for sink, end in self._machine.sink_ends().items():",
    ),
    "what a full entry left over is forgotten": (
        "        self._requeue(taken, len(batch))\n",
        "",
    ),
    "what a full entry left over waits last": (
        "self._pending.appendleft(m.SourceRecords(arrived.topic, arrived.time_ms, rest))",
        "self._pending.append(m.SourceRecords(arrived.topic, arrived.time_ms, rest))",
    ),
    "the mark tells what is stable, not what is published": (
        "sink: publication.acknowledged for sink",
        "sink: publication.stable for sink",
    ),
    "a linearizable answer needs no barrier": (
        "own_records = self._appended + (1 if linearizable else 0)",
        "own_records = self._appended",
    ),
    "an answer leaves before what it tells is stable": (
        "pending[0].own_records <= self._read_back",
        "pending[0].own_records <= self._appended",
    ),
    "entries do not extend the running hash": (
        "self._digest = next_digest(self._digest, value)",
        "self._digest = next_digest(self._digest, value[1:])",
    ),
    "the pipeline has no bound": (
        "ahead >= limits.pipeline_entries or",
        "ahead > limits.pipeline_entries or",
    ),
    "decisions do not wait for the sinks": (
        "publication.backlog < limits.unpublished_outputs",
        "publication.backlog <= limits.unpublished_outputs",
    ),
    "held sources stay held": (
        "if self._sources_paused and not self._exceeds(RESUME_AT):",
        "if self._sources_paused and self._pending_commands < 0:",
    ),
    "a failed sink stays closed": (
        "        return [m.OpenSink(sink)]",
        "        return []",
    ),
    "a deposed leader takes its successor's outputs for a foreign topic": (
        "if not self._ahead or self._ahead_proof is None or position < self._ahead_proof:",
        "if not self._ahead:",
    ),
    "a sink that is ahead is not looked at": (
        "        if tail.next_seq > publication.stable:",
        "        if tail.next_seq < 0:",
    ),
    "half a batch stays behind": (
        "                self._pending.appendleft(waiting)\n",
        "                pass\n",
    ),
    "a leader that reads nothing back stays in office": (
        "return now_ms - self._unread_since_ms >= self._limits.readback_ms",
        "return False",
    ),
    "a leader that reads nothing back and lands nothing leaves office": (
        "if self._acknowledged <= self._read_back:",
        "if not self.inflight:",
    ),
}

OUTBOX = {
    "outputs leave before their entry is read back": (
        "chunks = self._outbox.between(self._sent, self.stable)",
        "chunks = self._outbox.between(self._sent, self._outbox.next_seq)",
    ),
    "the first request is not alone in flight": (
        "min(self._sent + 1, self.stable)",
        "self.stable",
    ),
    "a sink is resumed one too early": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self.acknowledged = self._sent = max(self.acknowledged, tail - 1, 0)",
    ),
    "a sink is resumed one too late": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self.acknowledged = self._sent = max(self.acknowledged, tail + 1)",
    ),
    "a sink is resumed at its tail alone": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self.acknowledged = self._sent = tail",
    ),
    "a sink is resumed at the mark alone": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self._sent = self.acknowledged",
    ),
    "what is sent counts as acknowledged": (
        "self.acknowledged = max(self.acknowledged, next_seq)",
        "self.acknowledged = self._sent",
    ),
    "an output is forgotten too early": (
        "while chunks and chunks[0].end <= published:",
        "while chunks and chunks[0].first <= published:",
    ),
    "what is stable at a failed sink's new beginning is left out": (
        "        self._sent = max(self._sent, self.stable)\n",
        "        self._sent = max(self._sent, self.stable) + 1\n",
    ),
}

READS = {
    "a standby answers as leader": (
        "if query.linearizable and replica.leadership is None:",
        "if query.linearizable and replica.leadership and replica.leadership.resigned:",
    ),
    "an answer leaves before what the reader has seen": (
        "if query.min_seq >= replica.journal.next_seq:",
        "if query.min_seq > replica.journal.next_seq:",
    ),
    "an answer is forgotten at a rebuild": (
        "        waiting, self._waiting = self._waiting, []\n        return [",
        "        waiting = self._waiting[1:]\n        return [",
    ),
}
