"""The content of a snapshot: from a replica, and back into one.

A replica that is restored from a snapshot and reads the journal after it equals one that has read
the whole journal, to the byte: `Image.content` of both is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

from postjournal.core.application import Application, Command
from postjournal.core.errors import (
    SnapshotDamaged,
    SnapshotMismatch,
    SnapshotTooNew,
    SnapshotUnusable,
)
from postjournal.core.fold import JournalState
from postjournal.core.records import UNREADABLE, Claim, Outcome
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot.frames import END, FrameReader, Part, frame
from postjournal.core.snapshot.manifest import FORMAT_VERSION, Manifest
from postjournal.core.state.outbox import Outputs
from postjournal.core.state.state_machine import StateMachine

S = TypeVar("S")
C = TypeVar("C", bound=Command)
E = TypeVar("E")

HEADER, STATE, OUTCOMES, OUTPUTS = "header", "state", "outcomes", "outputs"
ITEMS_PER_PART = 1_000
"""Outcomes or outputs in one part of the content: about 100 kB."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the bulk. The fold's fields are `JournalState`'s, the machine's those of a
    journal entry; `offset`: of the last record read; `record_digest`: BLAKE2b-128 of that record's
    value, which reveals a journal that was recreated; `other_sinks`: see `StateMachine`."""

    format: int
    application: str
    schema_version: int
    shard: int
    shards: int
    dedupe_window: int
    offset: int
    record_digest: str
    epoch: int
    leader: str | None
    alive_at: int
    resigned: bool
    successor: str | None
    claim: Claim | None
    next_seq: int
    digest: str
    time: int
    published: dict[str, int]
    sources: dict[str, int]
    sinks: dict[str, int]
    other_sinks: dict[str, int] = {}  # added in 0.2

    def manifest(
        self,
        snapshot_id: str,
        object_name: str,
        *,
        sha256: str,
        size: int,
        content_size: int,
        replica: str,
        time: int,
        duration_ms: int,
    ) -> Manifest:
        """Return the manifest of the stored object; its other fields are described there."""
        return Manifest(
            format=FORMAT_VERSION,
            id=snapshot_id,
            object=object_name,
            application=self.application,
            schema_version=self.schema_version,
            shard=self.shard,
            shards=self.shards,
            epoch=self.epoch,
            offset=self.offset,
            record_digest=self.record_digest,
            seq=self.next_seq,
            digest=self.digest,
            sources=self.sources,
            sinks=self.sinks,
            published=self.published,
            journal_time=self.time,
            sha256=sha256,
            size=size,
            content_size=content_size,
            replica=replica,
            time=time,
            duration_ms=duration_ms,
        )


class _Outputs(msgspec.Struct):
    sink: str
    first: int
    values: list[msgspec.Raw]


def record_digest(value: bytes) -> str:
    """Return the BLAKE2b-128 of a journal record's value, in hex."""
    return blake2b(value, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Image(Generic[S, C, E]):
    """A replica's state after the journal record at `offset`: what is dumped and restored.

    It refers to the live state: dump it before that changes. `snapshot_id`: the snapshot from
    which it was restored, "" otherwise.
    """

    offset: int
    record_digest: str
    journal: JournalState
    machine: StateMachine[S, C, E]
    snapshot_id: str = ""

    def header(self) -> Header:
        """Return everything but the bulk."""
        journal, machine = self.journal, self.machine
        return Header(
            format=FORMAT_VERSION,
            application=machine.application.name,
            schema_version=machine.application.schema_version,
            shard=machine.place.shard,
            shards=machine.place.shards,
            dedupe_window=machine.window.size,
            offset=self.offset,
            record_digest=self.record_digest,
            epoch=journal.epoch,
            leader=journal.leader,
            alive_at=journal.alive_at,
            resigned=journal.resigned,
            successor=journal.successor,
            claim=journal.claim,
            next_seq=journal.next_seq,
            digest=journal.digest,
            time=journal.time,
            published=dict(sorted(journal.published.items())),
            sources=dict(sorted(machine.sources.items())),
            sinks=machine.sink_ends(),
            other_sinks={sink: end for sink, end in sorted(machine.other_sinks.items()) if end},
        )

    def content(self) -> Iterator[bytes]:
        """Return the snapshot's content, uncompressed, in pieces. Raises what `dump` raises."""
        return frame(self._parts())

    def _parts(self) -> Iterator[Part]:
        machine = self.machine
        yield HEADER, msgspec.json.encode(self.header())
        outcomes = machine.window.outcomes()
        while some := list(islice(outcomes, ITEMS_PER_PART)):
            yield OUTCOMES, msgspec.json.encode(some)
        for sink in machine.outboxes:
            yield from self._outputs(sink)
        for piece in machine.application.dump(machine.state):
            yield STATE, piece

    def _outputs(self, sink: str) -> Iterator[Part]:
        """Outputs not yet known to be in the topic, always split at the same sequences."""
        first = self.journal.published.get(sink, 0)
        runs = self.machine.outboxes[sink].unpublished(first)
        values = [value for run in runs for value in run.values]
        for start in range(0, len(values), ITEMS_PER_PART):
            raw = [msgspec.Raw(value) for value in values[start : start + ITEMS_PER_PART]]
            yield OUTPUTS, msgspec.json.encode(_Outputs(sink, first + start, raw))


def load(
    content: Iterable[bytes],
    manifest: Manifest,
    application: Application[S, C, E],
    place: ShardPlace,
    dedupe_window: int,
) -> Image[S, C, E]:
    """Return the image that `content` holds.

    Raises `SnapshotDamaged` when it does not match the manifest; `SnapshotTooNew`;
    `SnapshotMismatch` when it belongs to a system with another configuration; `SnapshotUnusable`
    when the application cannot load it.
    """
    check_schema(manifest, application)
    frames = FrameReader(content, manifest.content_size)
    header = _decode(frames.expect(HEADER), Header)
    _check_manifest(header, manifest)
    _check_configuration(header, application, place, dedupe_window)
    machine: StateMachine[S, C, E] = StateMachine(application, place, dedupe_window)
    _load_outcomes(machine, frames, application.event_type)
    _load_outputs(machine, frames, header)
    machine.sources = dict(header.sources)
    ends = header.other_sinks | header.sinks
    machine.other_sinks = {sink: ends[sink] for sink in ends.keys() - machine.outboxes.keys()}
    machine.state = _load_state(application, header.schema_version, frames)
    frames.expect(END)
    journal = JournalState(
        epoch=header.epoch,
        leader=header.leader,
        alive_at=header.alive_at,
        resigned=header.resigned,
        next_seq=header.next_seq,
        digest=header.digest,
        published=dict(header.published),
        claim=header.claim,
        successor=header.successor,
        time=header.time,
    )
    return Image(header.offset, header.record_digest, journal, machine, manifest.id)


def check_schema(manifest: Manifest, application: Application[Any, Any, Any]) -> None:
    """Raise `SnapshotTooNew` if the application cannot read the manifest's schema."""
    if manifest.schema_version > application.schema_version:
        raise SnapshotTooNew(
            f"snapshot {manifest.id} has schema {manifest.schema_version} of {application.name}, "
            f"but this replica reads schemas up to {application.schema_version}: upgrade it"
        )


def _check_manifest(header: Header, manifest: Manifest) -> None:
    found = (header.shard, header.epoch, header.offset, header.next_seq, header.digest)
    expected = (manifest.shard, manifest.epoch, manifest.offset, manifest.seq, manifest.digest)
    same_kind = header.schema_version == manifest.schema_version and header.sinks == manifest.sinks
    if found != expected or not same_kind:
        raise SnapshotDamaged(
            f"snapshot {manifest.id} contains {found}, but its manifest has {expected}"
        )


def _check_configuration(
    header: Header, application: Application[Any, Any, Any], place: ShardPlace, dedupe_window: int
) -> None:
    for what, theirs, ours in (
        ("application", header.application, application.name),
        ("POSTJOURNAL_SHARDS", header.shards, place.shards),
        ("POSTJOURNAL_DEDUPE_WINDOW", header.dedupe_window, dedupe_window),
        ("shard", header.shard, place.shard),
    ):
        if theirs != ours:
            raise SnapshotMismatch(
                f"the snapshots of this shard were taken with {what} {theirs}, but here it is "
                f"{ours}: it must never differ within a system"
            )


def _load_outcomes(machine: StateMachine[S, C, E], frames: FrameReader, event_type: Any) -> None:
    decoder = msgspec.json.Decoder(list[Outcome[event_type]])
    for body in frames.take(OUTCOMES):
        machine.window.add_all(_decode_with(decoder, body))


def _load_outputs(machine: StateMachine[S, C, E], frames: FrameReader, header: Header) -> None:
    """Those of a sink that this release no longer has are dropped."""
    values: dict[str, list[bytes]] = defaultdict(list)
    for body in frames.take(OUTPUTS):
        part = _decode(body, _Outputs)
        values[part.sink] += [bytes(value) for value in part.values]
    for sink, outbox in machine.outboxes.items():
        first = header.published.get(sink, 0)
        if sink not in header.sinks:
            _check_complete(header, sink)
        elif first + len(values[sink]) != header.sinks[sink]:
            raise SnapshotDamaged(f"the snapshot lacks outputs of sink {sink}")
        outbox.resume(Outputs(first, values[sink]))


def _check_complete(header: Header, sink: str) -> None:
    """A release without `sink` took the snapshot: leaders of another may have had it before."""
    published, end = header.published.get(sink, 0), header.other_sinks.get(sink, 0)
    if published != end:
        raise SnapshotUnusable(
            f"a release without the sink {sink} took it, at a time when its outputs from seq "
            f"{published} on were not known to be published: it does not have them"
        )


def _load_state(application: Application[S, C, E], version: int, frames: FrameReader) -> S:
    pieces = frames.take(STATE)
    try:
        state = application.load(version, pieces)
    except SnapshotUnusable:
        raise
    except Exception as error:
        raise SnapshotUnusable(
            f"{application.name}.load failed: {type(error).__name__}: {error}"
        ) from error
    for _ in pieces:  # the rest, which `load` has not read
        pass
    return state


def _decode(body: bytes, kind: type[Any]) -> Any:
    return _decode_with(msgspec.json.Decoder(kind), body)


def _decode_with(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise SnapshotDamaged(f"the snapshot's content is damaged: {error}") from error
