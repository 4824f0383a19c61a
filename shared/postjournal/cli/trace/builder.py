"""The trace of one command, built from its records. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from postjournal.cli.trace.accepted_entries import AcceptedEntry, RecordPosition


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a trace.

    `kind`: source, journal or sink; `time_ms`: Kafka's timestamp, since the Unix epoch;
    `after_ms`: since the step before; `details`: fields of the record, `told` in JSON.
    """

    kind: str
    topic: str
    partition: int
    offset: int
    time_ms: int
    after_ms: int
    details: dict[str, Any] = msgspec.field(name="told")


class CommandTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The trace of one command.

    `outcome`: waiting, accepted, rejected or replayed; `total_ms`: from the first step to the
    last; `repeats`: outputs that a sink's topic has more than once.
    """

    id: str
    trace_id: str | None
    shard: int
    outcome: str
    reason: str | None
    total_ms: int
    repeats: int
    steps: list[Step]


class SourceRecord(msgspec.Struct, frozen=True):
    """The command's record in its source topic."""

    position: RecordPosition
    id: str
    traceparent: str | None


class PublishedOutput(msgspec.Struct, frozen=True):
    """An output of the command; `copies`: how many records of the sink's topic contain it."""

    sink: str
    position: RecordPosition
    value: dict[str, Any]
    copies: int


class TraceBuilder:
    """Collects steps in order; `start_ms`: the time of the first one."""

    def __init__(self, start_ms: int) -> None:
        self.steps: list[Step] = []
        self._last_ms = start_ms

    def add(self, kind: str, position: RecordPosition, details: dict[str, Any]) -> None:
        self.steps.append(
            Step(
                kind=kind,
                topic=position.topic,
                partition=position.partition,
                offset=position.offset,
                time_ms=position.time_ms,
                after_ms=position.time_ms - self._last_ms,
                details=details,
            )
        )
        self._last_ms = position.time_ms


def build_trace(
    source: SourceRecord, accepted: AcceptedEntry | None, outputs: Sequence[PublishedOutput]
) -> CommandTrace:
    """Return the trace; its outcome is `waiting` when no entry has decided the command."""
    builder = TraceBuilder(source.position.time_ms)
    headers = {"traceparent": source.traceparent} if source.traceparent else {}
    builder.add("source", source.position, headers)
    outcome, reason = "waiting", None
    if accepted is not None:
        decision = _decision(source, accepted)
        outcome, reason = decision["outcome"], decision.get("rejected")
        builder.add("journal", accepted.position, decision)
    for output in sorted(outputs, key=lambda output: output.position.time_ms):
        builder.add("sink", output.position, {"sink": output.sink, **output.value})
    return CommandTrace(
        id=source.id,
        trace_id=trace_id_of(source.traceparent),
        shard=source.position.partition,
        outcome=outcome,
        reason=reason,
        total_ms=builder.steps[-1].time_ms - source.position.time_ms,
        repeats=sum(output.copies - 1 for output in outputs),
        steps=builder.steps,
    )


def _decision(source: SourceRecord, accepted: AcceptedEntry) -> dict[str, Any]:
    entry = accepted.entry
    index = index_in_batch(source, accepted)
    item = entry.batch[index]
    decision: dict[str, Any] = {
        "epoch": entry.epoch,
        "seq": entry.seq + index,
        "commands": len(entry.batch),
        "time": entry.time,
    }
    if item.replayed:
        return decision | {"outcome": "replayed"}
    if item.rejected is not None:
        return decision | {"outcome": "rejected", "rejected": item.rejected}
    return decision | {"outcome": "accepted", "events": item.events}


def index_in_batch(source: SourceRecord, accepted: AcceptedEntry) -> int:
    """Return the index of the command in the entry's batch.

    An entry does not record the order in which it read its sources, so the command is found by
    its id. Where the batch has the id twice, all commands before it in its own source must be
    before it in the batch as well. Raises `ValueError` when the batch does not have the id.
    """
    indexes = [n for n, item in enumerate(accepted.entry.batch) if item.id == source.id]
    if not indexes:
        raise ValueError(f"{accepted.position} covers {source.position} but not {source.id}")
    previous = accepted.previous
    next_offset = previous.sources.get(source.position.topic, 0) if previous else None
    if next_offset is None or len(indexes) == 1:
        return indexes[0]
    earlier = source.position.offset - next_offset
    return next((n for n in indexes if n >= earlier), indexes[-1])


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the second field of a `traceparent` header (W3C Trace Context)."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 else None
