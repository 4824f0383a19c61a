"""Invariants of snapshots: snapshot plus tail equals the whole journal, byte for byte."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any

from postjournal.core.fold import JournalState, Verdict
from postjournal.core.records import Codec, Entry
from postjournal.core.replica import Replica
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot.image import Header, Image, record_digest
from postjournal.core.state.state_machine import StateMachine
from tests.simulation.application import Release, SimLedger
from tests.simulation.invariants import must

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster

_CODEC: Codec[Any] = Codec(SimLedger.event_type)


class FullReplay:
    """Replays the journal from its first record, without snapshots and ignoring any trimming."""

    def __init__(self, cluster: SimulatedCluster, shard: int, release: Release) -> None:
        self._application = SimLedger(release)
        self._records = cluster.topics[shard].journal.records
        self._place = ShardPlace(shard, cluster.profile.shards)
        self._window = cluster.profile.limits.dedupe_window
        self._restart()

    def _restart(self) -> None:
        self._position = 0
        self._journal = JournalState()
        self._machine: StateMachine[Any, Any, Any] = StateMachine(
            self._application, self._place, self._window
        )

    def content(self, position: int) -> bytes:
        """The content of a snapshot taken after all records before `position` were read."""
        if position < self._position:
            self._restart()
        while self._position < position:
            self._read(self._position, self._records[self._position])
            self._position += 1
        last = record_digest(self._records[position - 1]) if position else ""
        return b"".join(Image(position - 1, last, self._journal, self._machine).content())

    def _read(self, offset: int, value: bytes) -> None:
        record = _CODEC.decode(value)
        if self._journal.fold(offset, record, value) is Verdict.ACCEPTED:
            if isinstance(record, Entry):
                self._machine.apply(record)
            self._machine.forget(self._journal.published)


class SnapshotInvariants:
    """The invariants of one shard's snapshots and restored replicas."""

    def __init__(self, cluster: SimulatedCluster, shard: int) -> None:
        self._replays = {
            has_balances: FullReplay(cluster, shard, Release(has_balances))
            for has_balances in (False, True)
        }

    def _content(self, position: int, sinks: Container[str]) -> bytes:
        """As a replica that has read everything before `position`, with these sinks, stores it."""
        return self._replays["balances" in sinks].content(position)

    def a_snapshot_equals_the_journal_up_to_its_offset(
        self, header: Header, content: bytes
    ) -> None:
        """Of any replica, however it obtained its state."""
        right = self._content(header.offset + 1, header.sinks)
        name = "a_snapshot_equals_the_journal_up_to_its_offset"
        must(content == right, name, "offset %d: %s, must be %s", header.offset, content, right)

    def a_restored_image_equals_the_journal_up_to_its_offset(
        self, image: Image[Any, Any, Any] | None
    ) -> None:
        """Whatever the store contains, damaged or not."""
        if image is not None:
            mine = b"".join(image.content())
            right = self._content(image.offset + 1, image.machine.outboxes)
            name = "a_restored_image_equals_the_journal_up_to_its_offset"
            must(mine == right, name, "offset %d: %s, must be %s", image.offset, mine, right)

    def a_replica_equals_the_journal_up_to_its_position(
        self, replica: Replica[Any, Any, Any]
    ) -> None:
        """Of a standby, or a leader with nothing in flight, restored or not. Slow."""
        mine = b"".join(replica.image().content())
        right = self._content(replica.position, replica.machine.outboxes)
        name = "a_replica_equals_the_journal_up_to_its_position"
        must(
            mine == right,
            name,
            "%s at %d: %s, must be %s",
            replica.incarnation,
            replica.position,
            mine,
            right,
        )
