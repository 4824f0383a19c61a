"""The `Snapshots` port of the simulation: slow and unreliable, over a store in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from postjournal.core import messages as m
from postjournal.core.roles import SnapshotState
from postjournal.core.sharding import ShardPlace
from postjournal.core.snapshot.image import Header, Image
from postjournal.recovery import codec as snapshot_codec
from postjournal.recovery.choice import AnyImage, Loader, recover
from tests.simulation.event_loop import MS
from tests.simulation.snapshot_store import (
    SimRecoveryJournal,
    StoredSnapshot,
    StoreView,
    damaged,
    make_stored_snapshot,
)

if TYPE_CHECKING:
    from tests.simulation.broker import ShardTopics
    from tests.simulation.host import Host
    from tests.simulation.snapshot_invariants import SnapshotInvariants

SLOW_US = 100 * MS


class SimSnapshots:
    """The `Snapshots` port of one replica."""

    def __init__(self, host: Host, topics: ShardTopics, wake: Callable[[], None]) -> None:
        self._host, self._topics, self._wake = host, topics, wake
        self._cluster, self._loop = host.cluster, host.cluster.loop
        self._faults = host.cluster.profile.snapshots
        self._ready: list[m.Message] = []
        self._generation = 0
        self._is_taking = False
        place = ShardPlace(topics.shard, self._cluster.profile.shards)
        window = self._cluster.profile.limits.dedupe_window
        self._load: Loader = partial(
            snapshot_codec.restore, application=host.application, place=place, dedupe_window=window
        )

    @property
    def is_taking(self) -> bool:
        """Whether a snapshot is being taken."""
        return self._is_taking

    @property
    def _invariants(self) -> SnapshotInvariants:
        return self._cluster.audit.snapshots(self._topics.shard)

    def poll(self) -> Sequence[m.Message]:
        ready, self._ready = self._ready, []
        return ready

    def cancel(self) -> None:
        self._host.perform("give_up", self.end)

    def end(self) -> None:
        """Deliver nothing more; a forked child dies with its parent."""
        if self._is_taking:
            self._cluster.coverage.hit("snapshots abandoned")
        self._generation += 1
        self._is_taking = False
        self._ready.clear()

    def _deliver(self, generation: int, message: m.Message) -> None:
        if generation == self._generation:
            self._ready.append(message)
            self._wake()

    # --- restoring --------------------------------------------------------------------------

    def restore(self) -> None:
        self._host.perform("restore", self._restore)

    def _restore(self) -> None:
        delay_us = self._loop.exponential(self._faults.restore_us)
        self._loop.after(delay_us, self._restore_now, self._generation)

    def _restore_now(self, generation: int) -> None:
        """Restore from what is in the store at some instant between request and answer."""
        if generation != self._generation:
            return
        if not self._host.reachable:
            self._host.when_reachable(self._restore_now, generation)
            return
        image = self._recover()
        self._invariants.a_restored_image_equals_the_journal_up_to_its_offset(image)
        delay_us = self._loop.exponential(self._faults.restore_us)
        self._loop.after(delay_us, self._deliver, generation, m.Restored(image))

    def _recover(self) -> AnyImage | None:
        store = self._cluster.stores[self._topics.shard]
        hidden = self._cluster.snapshot_fault_probability("hidden")
        seen = [stored for stored in store.snapshots if not self._loop.chance(hidden)]
        begin = self._topics.journal.begin
        if begin and not any(stored.is_sound and stored.reaches(begin) for stored in seen):
            seen = store.snapshots  # the trimmed journal cannot be restored otherwise
        found = recover(StoreView(seen), SimRecoveryJournal(self._topics), self._load)
        hit, image = self._cluster.coverage.hit, found.image
        hit("damaged snapshots skipped", sum(1 for stored in seen if not stored.is_sound))
        lacking = [why for why in found.skipped.values() if "release without the sink" in why]
        hit("snapshots that lack outputs skipped", len(lacking))
        if image is None:
            hit("restores without a snapshot", 1 if store.snapshots else 0)
        elif image.snapshot_id == store.snapshots[0].manifest.id:
            hit("restores from the newest snapshot")
        else:
            hit("restores from an older snapshot")
        self._loop.trace(self._host.name, "restores %s", image and image.snapshot_id)
        return image

    # --- taking -----------------------------------------------------------------------------

    def take(self, request: m.SnapshotRequested, image: Image[Any, Any, Any]) -> None:
        """The state is copied at the instant of the call, as by a fork."""
        assert not self._is_taking, "one at a time"
        assert request.replica == self._host.replica_name, "requested of another replica"
        content = list(image.content())
        self._host.perform("take", self._take, request, image.header(), content)

    def _take(self, request: m.SnapshotRequested, header: Header, content: list[bytes]) -> None:
        self._is_taking = True
        joined = b"".join(content)
        self._loop.trace(self._host.name, "takes %s at %d", request.snapshot_id, header.offset)
        self._invariants.a_snapshot_equals_the_journal_up_to_its_offset(header, joined)
        if self._host.processes[self._topics.shard].leads:
            self._cluster.coverage.hit("snapshots of a leader")
        delay_us = self._loop.exponential(self._faults.store_us)
        if delay_us > SLOW_US:
            self._cluster.coverage.hit("slow snapshots")
        self._loop.after(delay_us, self._store, self._generation, request, header, joined)

    def _store(
        self, generation: int, request: m.SnapshotRequested, header: Header, content: bytes
    ) -> None:
        if generation != self._generation:
            return
        if self._host.paused_until_us is not None:  # its child continues, but cannot report yet
            self._host.when_running(lambda: self._store(generation, request, header, content))
            return
        self._is_taking = False
        hit, name = self._cluster.coverage.hit, request.snapshot_id
        store = self._cluster.stores[self._topics.shard]
        fails = self._loop.chance(self._cluster.snapshot_fault_probability("fails"))
        if fails or store.holds(name):
            hit("snapshots failed")
            failed = m.SnapshotProgressed(
                name, request.attempt, SnapshotState.FAILED, error="injected fault"
            )
            self._deliver(generation, failed)
            return
        stored = make_stored_snapshot(name, self._host.name, header, content)
        hit("snapshots taken")
        store.put(stored, self._topics.journal.begin)
        if self._loop.chance(self._cluster.snapshot_fault_probability("damage")):
            hit("snapshots damaged in the store")
            self._loop.after(self._loop.uniform(0, 500 * MS), self._damage, stored)
        self._deliver(generation, m.SnapshotProgressed(name, request.attempt, SnapshotState.DONE))

    def _damage(self, stored: StoredSnapshot) -> None:
        store, begin = self._cluster.stores[self._topics.shard], self._topics.journal.begin
        if stored.data and not store.needs(stored, begin):
            stored.data = damaged(self._loop.random, stored.data)
