"""Bugs of a leader: what it decides ahead, publishes and answers.

See the package's docstring for the format.
"""

from __future__ import annotations

from tests.simulation.planted.planting import Change

LEADERSHIP: dict[str, Change] = {
    "a heartbeat is appended while a record is not read back": (
        "if self.inflight or self.resigned:",
        "if self.resigned:",
    ),
    "a stable entry releases the outputs of all decisions": (
        "for sink, end in own.sink_ends.items():",
        "for sink, end in self._machine.sink_ends().items():",
    ),
    "commands that did not fit into an entry are lost": (
        "self._requeue(taken, len(batch))",
        "",
    ),
    "commands that did not fit into an entry are decided last": (
        "self._pending.appendleft(m.SourceRecords(arrived.topic, arrived.time_ms, rest))",
        "self._pending.append(m.SourceRecords(arrived.topic, arrived.time_ms, rest))",
    ),
    "the mark is what is stable instead of what is published": (
        "{sink: publication.acknowledged for sink, publication in self._publications.items()}",
        "{sink: publication.stable for sink, publication in self._publications.items()}",
    ),
    "a linearizable answer needs no barrier": (
        "own_records = self._appended + (1 if linearizable else 0)",
        "own_records = self._appended",
    ),
    "an answer is sent before its state is stable": (
        "pending[0].own_records <= self._read_back",
        "pending[0].own_records <= self._appended",
    ),
    "entries do not extend the digest": (
        "self._digest = next_digest(self._digest, value)",
        "self._digest = next_digest(self._digest, value[1:])",
    ),
    "the pipeline is not bounded": (
        "ahead >= limits.pipeline_entries or",
        "ahead > limits.pipeline_entries or",
    ),
    "decisions do not wait for the sinks": (
        "publication.backlog < limits.unpublished_outputs",
        "publication.backlog <= limits.unpublished_outputs",
    ),
    "paused sources stay paused": (
        "if self._sources_paused and not self._exceeds(RESUME_AT):",
        "if self._sources_paused and self._pending_commands < 0:",
    ),
    "a failed sink stays closed": (
        "return [m.OpenSink(sink)]",
        "return []",
    ),
    "a deposed leader halts at its successor's outputs": (
        "if not self._ahead or self._ahead_proof is None or position < self._ahead_proof:",
        "if not self._ahead:",
    ),
    "a sink that is ahead is not noticed": (
        "if tail.next_seq > publication.stable:",
        "if tail.next_seq < 0:",
    ),
    "the rest of a batch is lost": (
        "self._pending.appendleft(waiting)",
        "",
    ),
    "a leader with stalled readback continues to lead": (
        "return now_ms - self._unread_since_ms >= self._limits.readback_ms",
        "return False",
    ),
    "a leader without acknowledged appends counts as stalled": (
        "if self._acknowledged <= self._read_back:",
        "if not self.inflight:",
    ),
    "heartbeats are not announced": (
        "due_ms.append(now_ms if self._pending_answers else self._heartbeat_due_ms)",
        "",
    ),
    "the deadline of a resignation is not announced": (
        "due_ms.append(self.closing.deadline_ms)",
        "",
    ),
}

OUTBOX: dict[str, Change] = {
    "outputs are published before their entry is read back": (
        "chunks = self._outbox.between(self._sent, self.stable)",
        "chunks = self._outbox.between(self._sent, self._outbox.next_seq)",
    ),
    "the first request is not alone in flight": (
        "min(self._sent + 1, self.stable)",
        "self.stable",
    ),
    "publishing resumes one output too early": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self.acknowledged = self._sent = max(self.acknowledged, tail - 1, 0)",
    ),
    "publishing resumes one output too late": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self.acknowledged = self._sent = max(self.acknowledged, tail + 1)",
    ),
    "publishing resumes at the tail only": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self.acknowledged = self._sent = tail",
    ),
    "publishing resumes at the mark only": (
        "self.acknowledged = self._sent = max(self.acknowledged, tail)",
        "self._sent = self.acknowledged",
    ),
    "what is sent counts as acknowledged": (
        "self.acknowledged = max(self.acknowledged, next_seq)",
        "self.acknowledged = self._sent",
    ),
    "an output is dropped too early": (
        "while chunks and chunks[0].end <= published:",
        "while chunks and chunks[0].first <= published:",
    ),
    "a stable output is skipped when a failed sink is reopened": (
        "self._sent = max(self._sent, self.stable)",
        "self._sent = max(self._sent, self.stable) + 1",
    ),
}

READS: dict[str, Change] = {
    "a standby answers as leader": (
        "if query.linearizable and replica.leadership is None:",
        "if query.linearizable and replica.leadership and replica.leadership.resigned:",
    ),
    "an answer does not include min_seq": (
        "if query.min_seq >= replica.journal.next_seq:",
        "if query.min_seq > replica.journal.next_seq:",
    ),
    "a query is forgotten at a rebuild": (
        "waiting, self._waiting = self._waiting, []\nreturn [",
        "waiting = self._waiting[1:]\nreturn [",
    ),
}
