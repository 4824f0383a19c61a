"""Reads stored snapshots without the engine and compares them with the journal."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Protocol

import msgspec

from postjournal.core.application import Application
from postjournal.core.errors import SnapshotDamaged
from postjournal.core.records import UNREADABLE, Claim, Outcome
from postjournal.core.snapshot.manifest import Manifest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SLICE_BYTES = 65_536
"""Compressed bytes that are decompressed at once: bounds the memory for any compression ratio."""

MAX_WINDOW_LOG = 27
"""Of 128 MiB: what a damaged header may request at most."""

NO_PART = ("nothing", b"")
"""Stands for a part that is missing."""


class StoredSnapshot(Protocol):
    """A snapshot that has a manifest."""

    @property
    def manifest(self) -> Manifest:
        """The manifest as it was when the audit started."""

    @property
    def path(self) -> str:
        """The object's name below the store's URL."""

    def read(self) -> Iterator[bytes]:
        """The object as stored.

        Raises `SnapshotDamaged` when the object is missing, and FileNotFoundError when it was
        deleted together with its manifest, as the retention of a running system does.
        """


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first part of a snapshot, see "Snapshots" in docs/protocol.md."""

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
    other_sinks: dict[str, int] | None = None

    @property
    def all_sinks(self) -> dict[str, int]:
        """Those of the release that took it, and those that it knew from the journal."""
        return (self.other_sinks or {}) | self.sinks


class OutputRun(msgspec.Struct, frozen=True):
    """Consecutive outputs of one sink, from sequence `first`, not known to be published."""

    sink: str
    first: int
    values: list[msgspec.Raw]


@dataclass(frozen=True)
class ExpectedState:
    """The state after the record at the header's offset, as the audit has computed it.

    `outputs`: sink → its outputs from the mark on.
    """

    header: Header
    outcomes: Iterable[Outcome[Any]]
    outputs: Mapping[str, list[bytes]]
    state: Any


@dataclass
class Content:
    """A snapshot's content. Read `state` last and to its end: that checks hash and size."""

    header: Header
    outcomes: list[Outcome[Any]]
    outputs: dict[str, list[bytes]]
    state: Iterator[bytes]


def compare(
    snapshot: StoredSnapshot, application: Application[Any, Any, Any], expected: ExpectedState
) -> str | None:
    """The differences between a snapshot and what the journal results in; None when equal.

    Raises what `open_content` raises.
    """
    content = open_content(snapshot, application)
    differences = [
        *_header_differences(content.header, expected.header),
        *_manifest_differences(snapshot.manifest, content.header, expected.header),
    ]
    if content.outcomes != list(expected.outcomes):
        differences.append("the dedupe window")
    for sink in content.header.sinks.keys() & expected.outputs.keys():
        if content.outputs.get(sink, []) != expected.outputs[sink]:
            differences.append(f"the unpublished outputs of {sink}")
    if not _is_same_state(application, content, expected.state):
        differences.append("the application's state")
    return ", ".join(differences) or None


def _header_differences(header: Header, expected: Header) -> Iterator[str]:
    for name in Header.__struct_fields__:
        if name in ("schema_version", "sinks", "other_sinks"):
            continue
        actual, wanted = _nonzero(getattr(header, name)), _nonzero(getattr(expected, name))
        if actual != wanted:
            yield f"{name} {actual} instead of {wanted}"
    actual, wanted = _nonzero(header.all_sinks), _expected_sinks(header, expected)
    if actual != wanted:
        yield f"sinks {actual} instead of {wanted}"


def _expected_sinks(header: Header, expected: Header) -> dict[str, int]:
    """Releases before 0.2 do not list the sinks that only leaders of other releases have."""
    is_known = header.other_sinks is not None
    ends = expected.all_sinks.items()
    return {sink: end for sink, end in ends if end and (is_known or sink in header.sinks)}


def _manifest_differences(manifest: Manifest, header: Header, expected: Header) -> Iterator[str]:
    """`header`: of the content, which lists the sinks of the release that took the snapshot."""
    sinks = _nonzero(expected.all_sinks)
    for name, wanted in (
        ("epoch", expected.epoch),
        ("seq", expected.next_seq),
        ("digest", expected.digest),
        ("record_digest", expected.record_digest),
        ("sources", expected.sources),
        ("sinks", {sink: end for sink, end in sinks.items() if sink in header.sinks}),
        ("published", expected.published),
    ):
        actual = _nonzero(getattr(manifest, name))
        if actual != wanted:
            yield f"{name} {actual} in the manifest instead of {wanted}"


def _nonzero(value: Any) -> Any:
    """Without the topics at position 0: which of these are listed depends on the release."""
    if isinstance(value, dict):
        return {name: position for name, position in value.items() if position}
    return value


def _is_same_state(application: Application[Any, Any, Any], content: Content, state: Any) -> bool:
    """Compare byte for byte; a state of an older schema is first migrated by the application."""
    stored: Iterable[bytes] = content.state
    if content.header.schema_version != application.schema_version:
        stored = application.dump(load_state(application, content))
    same = True
    for piece, wanted in zip_longest(stored, application.dump(state)):
        same = same and piece == wanted  # no early exit: hash and size are checked at the end
    return same


def load_state(application: Application[Any, Any, Any], content: Content) -> Any:
    """Decode the application's state. Raises `SnapshotDamaged`."""
    try:
        state = application.load(content.header.schema_version, content.state)
    except SnapshotDamaged:
        raise
    except Exception as error:
        raise SnapshotDamaged(f"the application cannot load it: {error}") from error
    for _ in content.state:  # `load` need not read to the end, but the hash is checked there
        pass
    return state


# --- the content ------------------------------------------------------------------------------


def open_content(snapshot: StoredSnapshot, application: Application[Any, Any, Any]) -> Content:
    """Read everything before the state. Raises `SnapshotDamaged`, and FileNotFoundError when the
    snapshot was deleted meanwhile."""
    parts = _parts(_decompressed(_hashed(snapshot)))
    events: Any = application.event_type
    outcomes_of = msgspec.json.Decoder(list[Outcome[events]]).decode
    run_of = msgspec.json.Decoder(OutputRun).decode
    try:
        header = msgspec.json.decode(_expect(parts, "header"), type=Header)
        outcomes: list[Outcome[Any]] = []
        outputs: dict[str, list[bytes]] = {}
        name, body = next(parts, NO_PART)
        while name == "outcomes":
            outcomes += outcomes_of(body)
            name, body = next(parts, NO_PART)
        while name == "outputs":
            run = run_of(body)
            before = outputs.setdefault(run.sink, [])
            if run.first != header.published.get(run.sink, 0) + len(before):
                raise SnapshotDamaged(f"outputs of {run.sink} are missing before {run.first}")
            before += [bytes(value) for value in run.values]
            name, body = next(parts, NO_PART)
    except UNREADABLE as error:
        raise SnapshotDamaged(f"its content cannot be read: {error}") from error
    return Content(header, outcomes, outputs, _state(chain([(name, body)], parts)))


def _state(parts: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    for name, body in parts:
        if name == "end":
            for _ in parts:  # reads on: the hash covers everything that is stored
                raise SnapshotDamaged("it continues after its end")
            return
        if name != "state":
            raise SnapshotDamaged(f"it has a part {name!r} where only the state's parts may be")
        yield body
    raise SnapshotDamaged("it ends too early")


def _expect(parts: Iterator[tuple[str, bytes]], wanted: str) -> bytes:
    name, body = next(parts, NO_PART)
    if name != wanted:
        raise SnapshotDamaged(f"it begins with {name!r}, expected {wanted!r}")
    return body


class _PartHeader(msgspec.Struct):
    part: str
    length: int


def _parts(content: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Each part is a line with its name and length, the body, and a line feed."""
    buffer = bytearray()

    def read_chunk() -> bool:
        chunk = next(content, None)
        buffer.extend(chunk or b"")
        return chunk is not None

    while True:
        while b"\n" not in buffer:
            if not read_chunk():
                if buffer:
                    raise SnapshotDamaged("it ends too early")
                return
        line = bytes(buffer[: buffer.index(b"\n")])
        part = msgspec.json.decode(line, type=_PartHeader)
        start, end = len(line) + 1, len(line) + 1 + part.length
        while len(buffer) <= end:
            if not read_chunk():
                raise SnapshotDamaged("it ends too early")
        body = bytes(buffer[start:end])
        del buffer[: end + 1]
        yield part.part, body


def _decompressed(stored: Iterator[bytes]) -> Iterator[bytes]:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    decompressor = zstd.ZstdDecompressor(options=options)
    try:
        for chunk in stored:
            for start in range(0, len(chunk), SLICE_BYTES):
                yield decompressor.decompress(chunk[start : start + SLICE_BYTES])
    except (zstd.ZstdError, EOFError) as error:  # EOFError: data after the frame
        for _ in stored:  # a wrong hash is the better explanation, and is raised at the end
            pass
        raise SnapshotDamaged(f"it cannot be decompressed: {error}") from error


def _hashed(snapshot: StoredSnapshot) -> Iterator[bytes]:
    """The stored bytes; raises `SnapshotDamaged` at the end when they are not those written."""
    sha256, size, manifest = hashlib.sha256(), 0, snapshot.manifest
    for chunk in snapshot.read():
        sha256.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, sha256.hexdigest()) != (manifest.size, manifest.sha256):
        raise SnapshotDamaged(
            f"it has {size} bytes with SHA-256 {sha256.hexdigest()}; its manifest has "
            f"{manifest.size} bytes with {manifest.sha256}"
        )
