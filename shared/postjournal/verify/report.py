"""What an audit tells."""

from __future__ import annotations

import msgspec

from postjournal.verify.rules import Finding


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """`decided`: the offset after the last decided record; `waiting`: records behind it."""

    decided: int
    waiting: int


class SinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """`outputs`: what the journal gives; `present`: of these, in the topic when it was read.

    `unpublished`: stable, not there, and no mark says that they should be; `repeats`: records
    that came again, equal to the first; `unchecked`: deleted by retention.
    """

    outputs: int
    present: int
    unpublished: int
    published: int
    repeats: int
    unchecked: int


class StartReport(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot behind which an audit began, since the journal before it is deleted."""

    snapshot: str
    offset: int
    seq: int


class ShardReport(msgspec.Struct, frozen=True, kw_only=True):
    """One shard. `journal_end`: offsets below it were read; `accepted`, `void`: records by kind.

    `void_reasons`: the same void records by reason; `commands` = `succeeded` + `rejected` +
    `repeated`; `unchecked`: of these, not decided again, as their source records are deleted;
    `replicas`: replica → how many of its digests were compared; `snapshots`: ids of those that
    were compared; `findings`: the first of each rule, `broken`: rule → how many.
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
        """No rule is broken."""
        return not self.broken


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole audit. `seconds`: of reading and checking."""

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
