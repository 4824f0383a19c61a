"""The rules that a sound journal obeys, and the findings about broken ones."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

import msgspec

MAX_EXAMPLES = 20
"""So many findings of one rule are kept with their text; all are counted."""


class Rule(StrEnum):
    """A rule's name is stable, because scripts may rely on it. `MEANING` has the sentences."""

    DIGEST_CHAIN = "digest-chain"
    SEQ_DENSE = "seq-dense"
    EPOCH_CLAIMED = "epoch-claimed"
    CLAIM_HONEST = "claim-honest"
    MARK_STABLE = "mark-stable"
    MARK_IN_SINK = "mark-in-sink"
    SOURCE_ORDER = "source-order"
    SOURCE_OFFSETS = "source-offsets"
    SOURCE_PRESENT = "source-present"
    DECISION = "decision"
    REPEAT = "repeat"
    APPLICATION = "application"
    SINK_ENDS = "sink-ends"
    SINK_READABLE = "sink-readable"
    SINK_DENSE = "sink-dense"
    SINK_CONTENT = "sink-content"
    SINK_REPEAT = "sink-repeat"
    SINK_EXPLAINED = "sink-explained"
    REPLICA_DIGEST = "replica-digest"
    SNAPSHOT_READABLE = "snapshot-readable"
    SNAPSHOT_CONTENT = "snapshot-content"


MEANING = {
    Rule.DIGEST_CHAIN: "an entry's digest_before is the running hash over the entries before it",
    Rule.SEQ_DENSE: "no accepted entry is missing that later records of its leader build on",
    Rule.EPOCH_CLAIMED: "a record's epoch is claimed before the record",
    Rule.CLAIM_HONEST: "a claim's `seen` is an offset before the claim itself",
    Rule.MARK_STABLE: "`published` is not beyond the outputs of the entries before the record",
    Rule.MARK_IN_SINK: "every output before a `published` mark is in the sink's topic",
    Rule.SOURCE_ORDER: "a batch names the commands of its source records, each once, in order",
    Rule.SOURCE_OFFSETS: "`sources` are the offsets after the records that the batch decides",
    Rule.SOURCE_PRESENT: "the source records that the journal decides are in their topics",
    Rule.DECISION: "an outcome is what `decide` returns for that command, state and time",
    Rule.REPEAT: "a command id is decided once within the dedupe window; later ones are repeats",
    Rule.APPLICATION: "`evolve` and the sinks do not fail",
    Rule.SINK_ENDS: "`sinks` are the sequences after the outputs of the entry",
    Rule.SINK_READABLE: "a sink's record is a JSON object with a `seq`",
    Rule.SINK_DENSE: "the sequences in a sink's topic have no gap",
    Rule.SINK_CONTENT: "record k of a sink is, byte for byte, output k of the journal",
    Rule.SINK_REPEAT: "a record whose sequence appears again is the same record",
    Rule.SINK_EXPLAINED: "every output in a sink's topic follows from the journal",
    Rule.REPLICA_DIGEST: "a replica's digest at its seq is the journal's",
    Rule.SNAPSHOT_READABLE: "a snapshot's object matches its manifest",
    Rule.SNAPSHOT_CONTENT: "a snapshot holds what the journal up to its offset results in",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One violation of a rule, found at the record at `offset` of `topic`/`partition`.

    For a stored snapshot, `topic` is the object's name and `offset` is None.
    """

    rule: str
    topic: str
    partition: int
    offset: int | None
    text: str

    @property
    def location(self) -> str:
        """topic/partition@offset, or the object's name."""
        if self.offset is None:
            return self.topic
        return f"{self.topic}/{self.partition}@{self.offset}"


class Findings:
    """The findings of one shard: all are counted, the first ones of each rule are kept."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self.counts: Counter[str] = Counter()
        self.examples: list[Finding] = []

    def add(self, rule: Rule, topic: str, offset: int | None, text: str) -> None:
        """Count a finding and keep it if it is among the first; arguments as in `Finding`."""
        self.counts[rule.value] += 1
        if self.counts[rule.value] <= MAX_EXAMPLES:
            finding = Finding(
                rule=rule.value, topic=topic, partition=self._shard, offset=offset, text=text
            )
            self.examples.append(finding)

    def __getitem__(self, rule: Rule) -> int:
        """How often the rule was broken."""
        return self.counts[rule.value]
