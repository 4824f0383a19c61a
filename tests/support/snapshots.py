"""Small journals with all kinds of outcomes, and snapshots of them as they are stored."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from postjournal.core.application import Application
from postjournal.core.errors import SnapshotDamaged
from postjournal.core.fold import JournalState
from postjournal.core.records import Claim, Codec, Entry, Heartbeat, SourceRecord
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot.image import Image, record_digest
from postjournal.core.snapshot.manifest import FORMAT_VERSION, Manifest
from postjournal.core.state.state_machine import StateMachine
from postjournal.ledger import Ledger
from postjournal.recovery import codec as snapshot_codec
from postjournal.samples.seats import Seats

AnyImage = Image[Any, Any, Any]

PLACE = ShardPlace(0, 1)
WINDOW = 50
CODEC: Codec[Any] = Codec(Ledger.event_type)


class Journal:
    """Writes entries as a leader does; folds and applies them as a standby does."""

    def __init__(self, application: Application[Any, Any, Any] | None = None) -> None:
        self.application = application or Ledger()
        self._codec: Codec[Any] = Codec(self.application.event_type)
        self._leader: StateMachine[Any, Any, Any] = StateMachine(self.application, PLACE, WINDOW)
        self.values: list[bytes] = []
        self._digest, self._seq, self._offset = "0" * 32, 0, 0
        self.published: dict[str, int] = {}
        self.append(self._codec.encode(Claim(1, "a", "a-1", "host:7071", -1)))

    def append(self, value: bytes) -> None:
        self.values.append(value)

    def entry(self, *commands: dict[str, Any], time: int | None = None) -> None:
        """`time`: of the leader's clock; by default each entry's is later than the one before."""
        rows: list[SourceRecord] = []
        for command in commands:
            rows.append((self._offset, b"main", msgspec.json.encode(command)))
            self._offset += 1
        time = 1_000 + len(self.values) if time is None else time
        batch = self._leader.decide([("ledger.commands", rows)], time)
        entry = Entry(
            epoch=1,
            seq=self._seq,
            batch=batch,
            sources=dict(self._leader.sources),
            sinks=self._leader.sink_ends(),
            published=dict(self.published),
            time=time,
            digest_before=self._digest,
        )
        value = self._codec.encode(entry)
        self.append(value)
        self._seq += len(batch)
        state = JournalState(digest=self._digest, epoch=1, leader="x", next_seq=entry.seq)
        state.fold(0, entry, value)
        self._digest = state.digest

    def heartbeat(self) -> bytes:
        """Of the leader, with the marks as they are now."""
        return self._codec.encode(Heartbeat(1, self._seq, dict(self.published), 1_000))

    def fold(self, image: AnyImage | None = None, end: int | None = None) -> AnyImage:
        """The state after all records before `end`, from the beginning or from `image`."""
        if image is None:
            machine: StateMachine[Any, Any, Any] = StateMachine(self.application, PLACE, WINDOW)
            image = Image(-1, "", JournalState(), machine)
        journal, machine = image.journal, image.machine
        last = self.values[: end or len(self.values)]
        for offset in range(image.offset + 1, len(last)):
            record = self._codec.decode(last[offset])
            verdict = journal.fold(offset, record, last[offset])
            assert verdict.value == "accepted"
            if isinstance(record, Entry):
                machine.apply(record)
            machine.forget(journal.published)
        return Image(len(last) - 1, record_digest(last[-1]), journal, machine)


def busy_journal() -> Journal:
    """Accepted, rejected, repeated and poison commands; some of the outputs are published."""
    journal = Journal()
    journal.entry({"type": "open", "id": "o1", "account": "a"})
    journal.entry(
        {"type": "open", "id": "o2", "account": "b"},
        {"type": "deposit", "id": "d1", "account": "a", "amount": 100},
        {"type": "withdraw", "id": "w1", "account": "b", "amount": 1},
    )
    journal.published = {"results": 2, "balances": 1}
    for number in range(40):
        transfer = {"type": "transfer", "from": "a", "to": "b", "amount": 1}
        journal.entry(transfer | {"id": f"t{number}"}, transfer | {"id": f"t{number // 2}"})
    journal.entry({"type": "nonsense", "id": "poison"}, {"no": "id"})
    return journal


def seats_journal() -> Journal:
    """The seats sample: seats held, bought and refused."""
    journal = Journal(Seats())
    journal.entry({"type": "hold", "id": "h1", "seat": "1A", "who": "ann"})
    journal.entry(
        {"type": "buy", "id": "b1", "seat": "1A", "who": "bob"},
        {"type": "buy", "id": "b2", "seat": "1B", "who": "bob"},
    )
    return journal


def content_of(image: AnyImage) -> bytes:
    return b"".join(image.content())


def stored(image: AnyImage, **changes: Any) -> tuple[Manifest, bytes]:
    """The manifest and the object of a snapshot, as a store holds them."""
    content = list(image.content())
    data = b"".join(snapshot_codec.compress(content))
    header = image.header()
    fields: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "id": "golden",
        "object": "object",
        "application": header.application,
        "schema_version": header.schema_version,
        "shard": header.shard,
        "shards": header.shards,
        "epoch": header.epoch,
        "offset": header.offset,
        "record_digest": header.record_digest,
        "seq": header.next_seq,
        "digest": header.digest,
        "sources": header.sources,
        "sinks": header.sinks,
        "published": header.published,
        "journal_time": header.time,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "content_size": sum(map(len, content)),
        "replica": "a",
        "time": 1,
        "duration_ms": 1,
    }
    return Manifest(**(fields | changes)), data


def verified(manifest: Manifest, data: bytes, chunk: int = 1 << 20) -> Iterator[bytes]:
    """The object in chunks, checked at its end as `SnapshotStore.read` does."""
    for start in range(0, len(data), chunk):
        yield data[start : start + chunk]
    if (len(data), hashlib.sha256(data).hexdigest()) != (manifest.size, manifest.sha256):
        raise SnapshotDamaged("the object does not match its manifest")


def restore(
    manifest: Manifest,
    data: bytes,
    application: Application[Any, Any, Any] | None = None,
    *,
    chunk: int = 1 << 20,
    window: int = WINDOW,
    place: ShardPlace = PLACE,
) -> AnyImage:
    stream = verified(manifest, data, chunk)
    return snapshot_codec.restore(stream, manifest, application or Ledger(), place, window)


def split(data: bytes, size: int) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def corrupted(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Truncated, flipped, swapped, emptied, doubled, with a stretch of zeros or of another one."""
    at = rng.randrange(len(data))
    length = rng.randint(1, 64)
    match rng.randrange(8):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 2:
            return other
        case 3:
            return b""
        case 4:
            return data + data[:length]
        case 5:
            zeros = data[:at] + b"\0" * length + data[at + length :]
            return zeros if zeros != data else b""
        case 6:
            mixed = data[:at] + other[at : at + length] + data[at + length :]
            return mixed if mixed != data else b""
        case _:
            return data[:at] + rng.randbytes(length) + data[at:]
