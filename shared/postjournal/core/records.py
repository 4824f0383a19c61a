"""The records of the journal partition, as they are on the wire.

JSON objects; `kind` names them. An outside reader needs only docs/protocol.md to fold them.
`Entry` is generic in the application's event type, so that one decoder call turns a whole entry
into typed events.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeAlias, TypeVar

import msgspec

E = TypeVar("E")

GENESIS_DIGEST = "0" * 32
"""The digest before the first accepted entry."""

MAX_ID_LENGTH = 128
"""Characters of a command's id; longer ones make a command invalid."""


FORMAT = 1
"""The version of everything that this release writes into the journal, and the latest it reads."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot decode; the last one for deep nesting."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """The position of a poison command in its source, and why it could not be decided.

    It is in the journal so that the dead-letter record, like any output, is a pure function of
    the journal. `value` is the beginning of the source record, at most 1,024 characters.
    """

    topic: str
    offset: int
    error: str
    value: str


class Outcome(msgspec.Struct, Generic[E], omit_defaults=True, frozen=True, gc=False):
    """The outcome of one command: an item of an entry's `batch`, and the argument of sinks.

    Exactly one of `events` (accepted) and `rejected` (the reason) is set. In a journal item of a
    repeated command neither is: `replayed` alone marks that the first outcome stands. Sinks
    receive for a repeat the first outcome with `replayed` set.
    """

    id: str
    type: str | None = None
    events: tuple[E, ...] | None = None
    rejected: str | None = None
    replayed: bool = False
    dead_letter: DeadLetter | None = None


class Claim(msgspec.Struct, tag_field="kind", tag="claim", frozen=True):
    """A standby asks to lead `epoch`; `seen` is the last journal offset that it has read."""

    epoch: int
    replica: str
    incarnation: str
    address: str
    seen: int


class Entry(msgspec.Struct, Generic[E], tag_field="kind", tag="entry", frozen=True):
    """A batch of decided commands, at least one. `seq`: of the first one.

    `sources`: topic → next offset after this batch; `sinks`: sink → next sequence after this
    batch; `published`: sink → first sequence not yet known to be in the sink's topic; `time`:
    the leader's wall clock, ms since the Unix epoch.
    """

    epoch: int
    seq: int
    batch: tuple[Outcome[E], ...]
    sources: dict[str, int]
    sinks: dict[str, int]
    published: dict[str, int]
    time: int
    digest_before: str


class Heartbeat(msgspec.Struct, tag_field="kind", tag="heartbeat", frozen=True):
    """The leader is alive; `seq` is its next; `time` rises in an epoch: no two are equal."""

    epoch: int
    seq: int
    published: dict[str, int]
    time: int


class Resign(msgspec.Struct, tag_field="kind", tag="resign", frozen=True, omit_defaults=True):
    """The leader steps down; `successor` is the name of the replica asked to claim at once."""

    epoch: int
    successor: str | None = None


class Format(msgspec.Struct, tag_field="kind", tag="format", frozen=True):
    """From here on the journal has the format `format`. No release has written one yet.

    It does not change the fold's state; a release that reads only earlier formats must stop here.
    `seq`: the leader's next.
    """

    epoch: int
    seq: int
    format: int


class Newer(msgspec.Struct, frozen=True):
    """The fold's fields of a record that only a newer release can read in full.

    `digest_before`: None for kinds that have none; `what`: the reason it cannot be read.
    """

    epoch: int
    seq: int
    digest_before: str | None
    what: str


class UnknownRecord(msgspec.Struct, frozen=True):
    """A journal record that is none of the four kinds. Postjournal never writes one; it is void.

    `newer`: set if it is the record of a newer release and may be accepted; see docs/protocol.md.
    """

    error: str
    newer: Newer | None = None


class _EntryFrame(msgspec.Struct, tag_field="kind", tag="entry", frozen=True):
    """An entry's fields that the fold reads (docs/protocol.md)."""

    epoch: int
    seq: int
    batch: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    sources: dict[str, int]
    sinks: dict[str, int]
    published: dict[str, int]
    time: int
    digest_before: str


_frames: msgspec.json.Decoder[_EntryFrame | Format] = msgspec.json.Decoder(_EntryFrame | Format)


SourceRecord: TypeAlias = tuple[int, bytes | None, bytes | None]
"""A record of a source topic: (offset, key, value)."""

Record: TypeAlias = Claim | Entry[E] | Heartbeat | Resign | UnknownRecord


_KINDS: dict[type, str] = {
    Claim: "claim",
    Entry: "entry",
    Heartbeat: "heartbeat",
    Resign: "resign",
    UnknownRecord: "foreign",
}


def kind_of(record: Record[E]) -> str:
    """The record's `kind`, as metrics name it; "foreign" for one that is none of the four."""
    return _KINDS[type(record)]


class Codec(Generic[E]):
    """Turns records into bytes and back for one application's event type."""

    def __init__(self, event_type: object) -> None:
        """Build the codec. `event_type`: a msgspec struct, or a union of tagged ones."""
        self._encoder = msgspec.json.Encoder()
        wire = Claim | Entry[event_type] | Heartbeat | Resign  # type: ignore[valid-type]
        self._decoder: msgspec.json.Decoder[Record[E]] = msgspec.json.Decoder(wire)

    def encode(self, record: Record[E]) -> bytes:
        """Return the record as JSON, fields as declared, so that equal records give equal bytes."""
        return self._encoder.encode(record)

    def decode(self, value: bytes | None) -> Record[E]:
        """Return the record, or `UnknownRecord` with the reason the bytes are not one."""
        try:
            return self._decoder.decode(value or b"")
        except UNREADABLE as error:
            return UnknownRecord(str(error), _newer(value or b"", str(error)))


def _newer(value: bytes, error: str) -> Newer | None:
    try:
        frame = _frames.decode(value)
    except UNREADABLE:
        return None
    if isinstance(frame, _EntryFrame):
        return Newer(frame.epoch, frame.seq, frame.digest_before, f"an entry: {error}")
    if frame.format <= FORMAT:
        return None
    what = f"format {frame.format}, and this release reads up to {FORMAT}"
    return Newer(frame.epoch, frame.seq, None, what)
