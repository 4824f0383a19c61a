"""Stored snapshots: read apart from the engine, and held against the journal at their offsets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Protocol

import msgspec
import zstandard

from postjournal.core.application import Application
from postjournal.core.errors import SnapshotDamaged
from postjournal.core.records import UNREADABLE, Claim, Outcome
from postjournal.core.snapshot.manifest import Manifest

SLICE_BYTES = 65_536
"""So much is unpacked at once: it bounds what is in memory, whatever it unpacks to."""

LARGEST_WINDOW_BYTES = 1 << 27

NOTHING = ("nothing", b"")
"""Where a part was to come."""


class StoredSnapshot(Protocol):
    """A snapshot of which there is a manifest."""

    @property
    def manifest(self) -> Manifest:
        """As it was when the audit began."""

    @property
    def path(self) -> str:
        """The object's name below the store's URL."""

    def read(self) -> Iterator[bytes]:
        """The object as stored. Raises `SnapshotDamaged` when it is missing; FileNotFoundError when
        it was deleted together with its manifest, as the retention of a running system does."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds besides the bulk: see design.md, section 2."""

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
    claim: Claim | None
    next_seq: int
    digest: str
    published: dict[str, int]
    sources: dict[str, int]
    sinks: dict[str, int]


class OutputRun(msgspec.Struct, frozen=True):
    """Outputs of one sink that were not yet known to be published."""

    sink: str
    first: int
    values: list[msgspec.Raw]


@dataclass(frozen=True)
class ExpectedState:
    """How things stand after the record at the header's offset, as the audit has worked it out.

    `outputs`: sink → those from its mark on.
    """

    header: Header
    outcomes: Iterable[Outcome[Any]]
    outputs: Mapping[str, list[bytes]]
    state: Any


@dataclass
class Content:
    """A snapshot's content. `state` must be read last, and to its end: then all is checked."""

    header: Header
    outcomes: list[Outcome[Any]]
    outputs: dict[str, list[bytes]]
    state: Iterator[bytes]


def check(
    kept: StoredSnapshot, application: Application[Any, Any, Any], expected: ExpectedState
) -> str | None:
    """What the snapshot holds otherwise than the journal gives; None when nothing.

    Raises `SnapshotDamaged`, FileNotFoundError.
    """
    content = open_content(kept, application)
    told = [
        *_header_differences(content.header, expected.header),
        *_manifest_differences(kept.manifest, expected.header),
    ]
    if content.outcomes != list(expected.outcomes):
        told.append("the dedupe window")
    for sink, outputs in expected.outputs.items():
        if content.outputs.get(sink, []) != outputs:
            told.append(f"the unpublished outputs of {sink}")
    if not _is_same_state(application, content, expected.state):
        told.append("the application's state")
    return ", ".join(told) or None


def _header_differences(found: Header, wanted: Header) -> Iterator[str]:
    for name in Header.__struct_fields__:
        its, right = _begun(getattr(found, name)), _begun(getattr(wanted, name))
        if its != right and name != "schema_version":
            yield f"{name} {its} instead of {right}"


def _manifest_differences(manifest: Manifest, wanted: Header) -> Iterator[str]:
    for name, right in (
        ("epoch", wanted.epoch),
        ("seq", wanted.next_seq),
        ("digest", wanted.digest),
        ("record_digest", wanted.record_digest),
        ("sources", wanted.sources),
        ("sinks", _begun(wanted.sinks)),
        ("published", wanted.published),
    ):
        its = _begun(getattr(manifest, name))
        if its != right:
            yield f"{name} {its} in the manifest instead of {right}"


def _begun(value: Any) -> Any:
    """Of topics' places those that are not 0: which others are named tells of the release only."""
    if isinstance(value, dict):
        return {name: place for name, place in value.items() if place}
    return value


def _is_same_state(application: Application[Any, Any, Any], content: Content, state: Any) -> bool:
    """Byte for byte; a state of an older schema goes the application's way first."""
    stored: Iterable[bytes] = content.state
    if content.header.schema_version != application.schema_version:
        stored = application.dump(load_state(application, content))
    same = True
    for piece, wanted in zip_longest(stored, application.dump(state)):
        same = same and piece == wanted  # read on: the end of what is stored is checked there
    return same


def load_state(application: Application[Any, Any, Any], content: Content) -> Any:
    """The application's state. Raises `SnapshotDamaged`."""
    try:
        state = application.load(content.header.schema_version, content.state)
    except SnapshotDamaged:
        raise
    except Exception as error:
        raise SnapshotDamaged(f"the application cannot load it: {error}") from error
    for _ in content.state:  # what `load` had no use for
        pass
    return state


# --- the content ------------------------------------------------------------------------------


def open_content(kept: StoredSnapshot, application: Application[Any, Any, Any]) -> Content:
    """Everything but the state is read. Raises `SnapshotDamaged`, FileNotFoundError."""
    parts = _parts(_unpacked(_hashed(kept)))
    events: Any = application.event_type
    outcomes_of = msgspec.json.Decoder(list[Outcome[events]]).decode
    run_of = msgspec.json.Decoder(OutputRun).decode
    try:
        header = msgspec.json.decode(_expect(parts, "header"), type=Header)
        outcomes: list[Outcome[Any]] = []
        outputs: dict[str, list[bytes]] = {}
        name, body = next(parts, NOTHING)
        while name == "outcomes":
            outcomes += outcomes_of(body)
            name, body = next(parts, NOTHING)
        while name == "outputs":
            run = run_of(body)
            before = outputs.setdefault(run.sink, [])
            if run.first != header.published.get(run.sink, 0) + len(before):
                raise SnapshotDamaged(f"outputs of {run.sink} are missing before {run.first}")
            before += [bytes(value) for value in run.values]
            name, body = next(parts, NOTHING)
    except UNREADABLE as error:
        raise SnapshotDamaged(f"its content cannot be read: {error}") from error
    return Content(header, outcomes, outputs, _state(chain([(name, body)], parts)))


def _state(parts: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    for name, body in parts:
        if name == "end":
            for _ in parts:  # what is stored behind it is hashed as well
                raise SnapshotDamaged("it goes on after its end")
            return
        if name != "state":
            raise SnapshotDamaged(f"it has a part {name!r} among those of the state")
        yield body
    raise SnapshotDamaged("it breaks off")


def _expect(parts: Iterator[tuple[str, bytes]], wanted: str) -> bytes:
    name, body = next(parts, NOTHING)
    if name != wanted:
        raise SnapshotDamaged(f"it begins with {name!r}, not {wanted!r}")
    return body


class _Head(msgspec.Struct):
    part: str
    length: int


def _parts(content: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Each part is a line that tells its name and length, the body, and a line feed."""
    buffer = bytearray()

    def read_on() -> bool:
        chunk = next(content, None)
        buffer.extend(chunk or b"")
        return chunk is not None

    while True:
        while b"\n" not in buffer:
            if not read_on():
                if buffer:
                    raise SnapshotDamaged("it breaks off")
                return
        line = bytes(buffer[: buffer.index(b"\n")])
        head = msgspec.json.decode(line, type=_Head)
        start, end = len(line) + 1, len(line) + 1 + head.length
        while len(buffer) <= end:
            if not read_on():
                raise SnapshotDamaged("it breaks off")
        body = bytes(buffer[start:end])
        del buffer[: end + 1]
        yield head.part, body


def _unpacked(stored: Iterator[bytes]) -> Iterator[bytes]:
    unpack = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES).decompressobj()
    try:
        for chunk in stored:
            for start in range(0, len(chunk), SLICE_BYTES):
                yield unpack.decompress(chunk[start : start + SLICE_BYTES])
    except zstandard.ZstdError as error:
        for _ in stored:  # the hash has the first word
            pass
        raise SnapshotDamaged(f"it cannot be decompressed: {error}") from error


def _hashed(kept: StoredSnapshot) -> Iterator[bytes]:
    """What is stored; raises `SnapshotDamaged` at its end when it is not what was written."""
    seen, size, manifest = hashlib.sha256(), 0, kept.manifest
    for chunk in kept.read():
        seen.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, seen.hexdigest()) != (manifest.size, manifest.sha256):
        raise SnapshotDamaged(
            f"{size} bytes with SHA-256 {seen.hexdigest()}; its manifest says {manifest.size} "
            f"with {manifest.sha256}"
        )
