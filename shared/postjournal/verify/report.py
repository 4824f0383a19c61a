"""The result of an audit; `verify --json` prints it."""

from __future__ import annotations

import msgspec

from postjournal.verify.rules import Finding


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """`decided`: the offset after the last decided record; `waiting`: records behind it."""

    decided: int
    waiting: int


class SinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """One sink of a shard.

    `outputs`: how many the journal defines; `present`: how many of these the topic held when it
    was read; `unpublished`: stable outputs that are not in the topic and that no mark declares
    published; `published`: the highest mark; `repeats`: records that came again, equal to the
    first; `unchecked`: outputs deleted by retention.
    """

    outputs: int
    present: int
    unpublished: int
    published: int
    repeats: int
    unchecked: int


class StartReport(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot behind which an audit started, because the journal before it is deleted."""

    snapshot: str
    offset: int
    seq: int


class ShardReport(msgspec.Struct, frozen=True, kw_only=True):
    """One shard.

    `journal_end`: offsets below it were read; `accepted`, `void`: records by kind;
    `void_reasons`: the same void records by reason; `commands` = `succeeded` + `rejected` +
    `repeated`; `unchecked`: how many of these were not decided again, because their source records
    are deleted; `replicas`: replica → how many of its digests were compared; `snapshots`: ids of
    those that were compared; `findings`: the first ones of each rule; `broken`: rule → how many.
    """

    shard: int
    start: StartReport | None
    journal_first: int
    journal_end: int
    epoch: int
    leader: str | None
    seq: int
    digest: str
    accepted: dict[str, int]
    void: dict[str, int]
    void_reasons: dict[str, int]
    commands: int
    succeeded: int
    rejected: int
    repeated: int
    unchecked: int
    sources: dict[str, SourceReport]
    sinks: dict[str, SinkReport]
    replicas: dict[str, int]
    snapshots: list[str]
    broken: dict[str, int]
    findings: list[Finding]

    @property
    def sound(self) -> bool:
        """Whether no rule is broken."""
        return not self.broken


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole audit. `seconds`: the time for reading and checking."""

    sound: bool
    bootstrap: str
    namespace: str
    application: str
    dedupe_window: int
    store: str | None
    commands: int
    seconds: float
    commands_per_second: float
    shards: list[ShardReport]
