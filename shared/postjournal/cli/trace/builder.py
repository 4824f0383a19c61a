"""What became of one command, step by step. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from postjournal.cli.trace.walk import Counted, Place


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One record. `kind`: source, journal or sink; `time_ms`: Kafka's timestamp, since the Unix
    epoch; `after_ms`: since the step before, and `told`: what the record says."""

    kind: str
    topic: str
    partition: int
    offset: int
    time_ms: int
    after_ms: int
    told: dict[str, Any]


class CommandTrace(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome`: waiting, accepted, rejected or replayed; `total_ms`: from the first step to the
    last; `repeats`: outputs that are in a sink's topic more than once."""

    id: str
    trace_id: str | None
    shard: int
    outcome: str
    reason: str | None
    total_ms: int
    repeats: int
    steps: list[Step]


class Source(msgspec.Struct, frozen=True):
    """The command as it stands in its source."""

    place: Place
    id: str
    traceparent: str | None


class Emitted(msgspec.Struct, frozen=True):
    """An output of the command; `copies`: how often the sink's topic has it."""

    sink: str
    place: Place
    value: dict[str, Any]
    copies: int


class TraceBuilder:
    """Puts steps one after the other."""

    def __init__(self, start_ms: int) -> None:
        """`start_ms`: when it began."""
        self.steps: list[Step] = []
        self._last_ms = start_ms

    def add(self, kind: str, place: Place, told: dict[str, Any]) -> None:
        """The next step."""
        self.steps.append(
            Step(
                kind=kind,
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                time_ms=place.time_ms,
                after_ms=place.time_ms - self._last_ms,
                told=told,
            )
        )
        self._last_ms = place.time_ms


def tell(source: Source, counted: Counted | None, outputs: Sequence[Emitted]) -> CommandTrace:
    """The whole trace_of; without an entry the command waits for its decision."""
    teller = TraceBuilder(source.place.time_ms)
    headers = {"traceparent": source.traceparent} if source.traceparent else {}
    teller.add("source", source.place, headers)
    outcome, reason = "waiting", None
    if counted is not None:
        told = _decision(source, counted)
        outcome, reason = told["outcome"], told.get("rejected")
        teller.add("journal", counted.place, told)
    for output in sorted(outputs, key=lambda each: each.place.time_ms):
        teller.add("sink", output.place, {"sink": output.sink, **output.value})
    return CommandTrace(
        id=source.id,
        trace_id=trace_id_of(source.traceparent),
        shard=source.place.partition,
        outcome=outcome,
        reason=reason,
        total_ms=teller.steps[-1].time_ms - source.place.time_ms,
        repeats=sum(output.copies - 1 for output in outputs),
        steps=teller.steps,
    )


def _decision(source: Source, counted: Counted) -> dict[str, Any]:
    entry = counted.entry
    position = position_of(source, counted)
    item = entry.batch[position]
    told: dict[str, Any] = {
        "epoch": entry.epoch,
        "seq": entry.seq + position,
        "commands": len(entry.batch),
        "time": entry.time,
    }
    if item.replayed:
        return told | {"outcome": "replayed"}
    if item.rejected is not None:
        return told | {"outcome": "rejected", "rejected": item.rejected}
    return told | {"outcome": "accepted", "events": item.events}


def position_of(source: Source, counted: Counted) -> int:
    """Where in the batch the command is.

    An entry does not tell the order in which it took its sources, so the id has to. Where the id
    is in the batch twice, all that came before it in its own source must come before it here.
    """
    found = [n for n, item in enumerate(counted.entry.batch) if item.id == source.id]
    if not found:
        raise ValueError(f"{counted.place} covers {source.place} but has no item {source.id}")
    before = counted.before.sources.get(source.place.topic, 0) if counted.before else None
    if before is None or len(found) == 1:
        return found[0]
    return next((n for n in found if n >= source.place.offset - before), found[-1])


def trace_id_of(traceparent: str | None) -> str | None:
    """The second field of the header."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 else None
