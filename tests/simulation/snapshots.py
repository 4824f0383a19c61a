"""Snapshots in the simulation: a store in memory, a port that is slow and fails, and those who
ask for snapshots and trim journals.

What is stored is what production stores: the engine's own content, compressed, with a manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from postjournal.core import messages as m
from postjournal.core.errors import SnapshotDamaged
from postjournal.core.snapshot.image import Header, Image
from postjournal.core.snapshot.manifest import FORMAT_VERSION, Manifest
from postjournal.core.state.state_machine import ShardPlace
from postjournal.recovery import codec as snapshot_codec
from postjournal.recovery.choice import AnyImage, Loader, recover
from services.coordinator import policy
from tests.simulation.application import SimLedger
from tests.simulation.event_loop import MS

if TYPE_CHECKING:
    from tests.simulation.broker import ShardTopics
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.host import Host
    from tests.simulation.snapshot_invariants import SnapshotInvariants

KEPT = 3
LONG_US = 100 * MS
_LEDGER = SimLedger()


@dataclass
class SnapshotFaults:
    """Of one run; the defaults are a cluster without snapshots. Times in µs, else probabilities."""

    gap_us: int = 0  # mean time between orders; 0: none
    store_us: int = 2 * MS  # mean time until one is stored
    restore_us: int = 1 * MS
    fails: float = 0.0
    rots: float = 0.0  # it is damaged after it was verified
    hidden: float = 0.0  # a replica does not see one that is there
    leader: float = 0.0  # an order allows the leader
    repeated: float = 0.0  # an order comes twice
    trims: float = 0.0  # with an order the journal is trimmed
    resigned: float = 0.0  # one is ordered when a leader resigns, before another leads


def draw_snapshot_faults(random: Random) -> SnapshotFaults:
    """For most seeds; see `faults.draw_profile`."""
    if random.random() < 0.25:
        return SnapshotFaults()
    faults = SnapshotFaults(
        gap_us=random.choice((60, 150, 400)) * MS,
        store_us=random.choice((500, 2 * MS, 50 * MS, 400 * MS)),
        restore_us=random.choice((100, 1 * MS, 30 * MS)),
    )
    for name, highest in (
        ("fails", 0.3),
        ("rots", 0.4),
        ("hidden", 0.4),
        ("leader", 0.5),
        ("repeated", 0.3),
        ("trims", 0.9),
        ("resigned", 0.9),
    ):
        if random.random() < 0.5:
            setattr(faults, name, random.random() * highest)
    return faults


@dataclass
class Stored:
    """One snapshot; `data` is what the store gives back, None: the object is gone."""

    manifest: Manifest
    data: bytes | None

    @property
    def is_sound(self) -> bool:
        """Whether it is still what was written."""
        data = self.data
        return data is not None and hashlib.sha256(data).hexdigest() == self.manifest.sha256

    def reaches(self, begin: int) -> bool:
        """Whether a journal that begins there goes on from it."""
        return self.manifest.offset + 1 >= begin


@dataclass
class Store:
    """One shard's snapshots, newest first."""

    snapshots: list[Stored] = field(default_factory=list)

    def put(self, stored: Stored, begin: int) -> None:
        """Keep it, and not more than `KEPT`, but always one for a journal that begins there."""
        self.snapshots.append(stored)
        self.snapshots.sort(key=lambda each: each.manifest.offset, reverse=True)
        while len(self.snapshots) > KEPT and not self.needs(self.snapshots[-1], begin):
            self.snapshots.pop()

    def holds(self, name: str) -> bool:
        """Whether another, of the same name, has stored it: a manifest is written once."""
        return any(each.manifest.id == name for each in self.snapshots)

    def needs(self, stored: Stored, begin: int) -> bool:
        """Whether a journal that was trimmed can be restored only from this one."""
        useful = [each for each in self.snapshots if each.is_sound and each.reaches(begin)]
        return begin > 0 and useful == [stored]


class View:
    """See `SnapshotSource`: what one replica sees of the store."""

    def __init__(self, seen: list[Stored]) -> None:
        """`seen`: newest first."""
        self._seen = {each.manifest.id: each for each in seen}

    @property
    def newest_first(self) -> Sequence[Manifest]:
        """Their manifests."""
        return [each.manifest for each in self._seen.values()]

    @property
    def unusable(self) -> Mapping[str, str]:
        """None."""
        return {}

    def read(self, manifest: Manifest) -> Iterator[bytes]:
        """As `SnapshotStore.read`."""
        data = self._seen[manifest.id].data
        if data is None:
            raise SnapshotDamaged("its object is missing")
        yield data
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise SnapshotDamaged("it is not what its manifest says")


class SimJournal:
    """See `RecoveryJournal`."""

    def __init__(self, topics: ShardTopics) -> None:
        """The journal of one shard."""
        self._journal = topics.journal

    def bounds(self) -> tuple[int, int]:
        """First offset and end."""
        return self._journal.begin, len(self._journal.records)

    def value(self, offset: int) -> bytes | None:
        """The record at `offset`."""
        return self._journal.records[offset] if offset >= self._journal.begin else None


class SimSnapshots:
    """The `Snapshots` port of one replica."""

    def __init__(self, host: Host, topics: ShardTopics, wake: Callable[[], None]) -> None:
        """Nothing is under way."""
        self._host, self._topics, self._wake = host, topics, wake
        self._cluster, self._loop = host.cluster, host.cluster.loop
        self._faults = host.cluster.profile.snapshots
        self._ready: list[m.Message] = []
        self._generation = 0
        self._is_taking = False
        place = ShardPlace(topics.shard, self._cluster.profile.shards)
        window = self._cluster.profile.limits.dedupe_window
        self._load: Loader = partial(
            snapshot_codec.restore, application=_LEDGER, place=place, dedupe_window=window
        )

    @property
    def is_taking(self) -> bool:
        """Whether one is under way."""
        return self._is_taking

    @property
    def _whole(self) -> SnapshotInvariants:
        return self._cluster.audit.snapshots(self._topics.shard)

    def poll(self) -> Sequence[m.Message]:
        """See `Snapshots`."""
        ready, self._ready = self._ready, []
        return ready

    def give_up(self) -> None:
        """See `Snapshots`."""
        self._host.perform("give_up", self.end)

    def end(self) -> None:
        """Nothing follows; a forked child dies with its parent."""
        if self._is_taking:
            self._cluster.coverage.hit("snapshots given up")
        self._generation += 1
        self._is_taking = False
        self._ready.clear()

    def _tell(self, generation: int, message: m.Message) -> None:
        if generation == self._generation:
            self._ready.append(message)
            self._wake()

    # --- restoring --------------------------------------------------------------------------

    def restore(self) -> None:
        """See `Snapshots`."""
        self._host.perform("restore", self._restore)

    def _restore(self) -> None:
        delay_us = self._loop.exponential(self._faults.restore_us)
        self._loop.after(delay_us, self._look, self._generation)

    def _look(self, generation: int) -> None:
        """What is there at some instant between asking and having it."""
        if generation != self._generation:
            return
        if not self._host.reachable:
            self._host.when_reachable(self._look, generation)
            return
        image = self._recover()
        self._whole.a_restored_image_is_the_journal_up_to_its_offset(image)
        delay_us = self._loop.exponential(self._faults.restore_us)
        self._loop.after(delay_us, self._tell, generation, m.Restored(image))

    def _recover(self) -> AnyImage | None:
        store = self._cluster.stores[self._topics.shard]
        hidden = self._cluster.snapshot_fault_probability("hidden")
        seen = [each for each in store.snapshots if not self._loop.chance(hidden)]
        begin = self._topics.journal.begin
        if begin and not any(each.is_sound and each.reaches(begin) for each in seen):
            seen = store.snapshots  # it cannot do without
        found = recover(View(seen), SimJournal(self._topics), self._load)
        hit, image = self._cluster.coverage.hit, found.image
        hit("damaged snapshots skipped", sum(1 for each in seen if not each.is_sound))
        if image is None:
            hit("restores from nothing", 1 if store.snapshots else 0)
        elif image.snapshot_id == store.snapshots[0].manifest.id:
            hit("restores from the newest snapshot")
        else:
            hit("restores from an older snapshot")
        self._loop.trace(self._host.name, "restores %s", image and image.snapshot_id)
        return image

    # --- taking -----------------------------------------------------------------------------

    def take(self, asked: m.SnapshotRequested, image: Image[Any, Any, Any]) -> None:
        """See `Snapshots`. The state is written down at the instant of the call, as by a fork."""
        assert not self._is_taking, "one at a time"
        assert asked.replica == self._host.replica_name, "it was asked of another"
        content = list(image.content())
        self._host.perform("take", self._take, asked, image.header(), content)

    def _take(self, asked: m.SnapshotRequested, header: Header, content: list[bytes]) -> None:
        self._is_taking = True
        whole = b"".join(content)
        self._loop.trace(self._host.name, "takes %s at %d", asked.snapshot_id, header.offset)
        self._whole.a_snapshot_is_the_journal_up_to_its_offset(header, whole)
        if self._host.processes[self._topics.shard].leads:
            self._cluster.coverage.hit("snapshots of a leader")
        delay_us = self._loop.exponential(self._faults.store_us)
        if delay_us > LONG_US:
            self._cluster.coverage.hit("snapshots that took long")
        self._loop.after(delay_us, self._store, self._generation, asked, header, whole)

    def _store(
        self, generation: int, asked: m.SnapshotRequested, header: Header, content: bytes
    ) -> None:
        if generation != self._generation:
            return
        if self._host.paused_until_us is not None:  # the child goes on, its parent does not
            self._host.when_running(lambda: self._store(generation, asked, header, content))
            return
        self._is_taking = False
        hit, name = self._cluster.coverage.hit, asked.snapshot_id
        store = self._cluster.stores[self._topics.shard]
        if self._loop.chance(self._cluster.snapshot_fault_probability("fails")) or store.holds(
            name
        ):
            hit("snapshots failed")
            failed = m.SnapshotProgressed(name, asked.attempt, "failed", error="by chance")
            self._tell(generation, failed)
            return
        stored = make_stored(name, self._host.name, header, content)
        hit("snapshots taken")
        store.put(stored, self._topics.journal.begin)
        if self._loop.chance(self._cluster.snapshot_fault_probability("rots")):
            hit("snapshots damaged in the store")
            self._loop.after(self._loop.uniform(0, 500 * MS), self._rot, stored)
        self._tell(generation, m.SnapshotProgressed(name, asked.attempt, "done"))

    def _rot(self, stored: Stored) -> None:
        store, begin = self._cluster.stores[self._topics.shard], self._topics.journal.begin
        if stored.data and not store.needs(stored, begin):
            stored.data = damaged(self._loop.random, stored.data)


def make_stored(snapshot_id: str, replica: str, header: Header, content: bytes) -> Stored:
    """As a replica stores it."""
    data = b"".join(snapshot_codec.compress([content]))
    manifest = Manifest(
        format=FORMAT_VERSION,
        id=snapshot_id,
        object=snapshot_id,
        application=header.application,
        schema_version=header.schema_version,
        shard=header.shard,
        shards=header.shards,
        epoch=header.epoch,
        offset=header.offset,
        record_digest=header.record_digest,
        seq=header.next_seq,
        digest=header.digest,
        sources=header.sources,
        sinks=header.sinks,
        published=header.published,
        journal_time=header.time,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        content_size=len(content),
        replica=replica,
        time=0,
        duration_ms=0,
    )
    return Stored(manifest, data)


def damaged(random: Random, data: bytes) -> bytes | None:
    """Gone, cut off, empty, or with a flipped bit."""
    at = random.randrange(len(data))
    flipped = bytes([data[at] ^ (1 << random.randrange(8))])
    return random.choice((None, data[:at], b"", data[:at] + flipped + data[at + 1 :]))


class Maintenance:
    """Orders snapshots of anybody, at random times, and trims journals behind them."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        """Idle until `start`."""
        self._cluster, self._loop = cluster, cluster.loop
        self._faults = cluster.profile.snapshots
        self._count = 0
        cluster.on_resigned = self._on_resigned

    def start(self) -> None:
        """The first order comes after a while."""
        if self._faults.gap_us:
            self._loop.after(self._loop.exponential(self._faults.gap_us), self._act)

    def _act(self) -> None:
        if self._cluster.faults_over:
            return
        random = self._loop.random
        shard = random.randrange(self._cluster.profile.shards)
        self.request_snapshot(random.choice(self._cluster.hosts), shard)
        if self._loop.chance(self._faults.trims):
            self.trim(shard)
        self._loop.after(self._loop.exponential(self._faults.gap_us), self._act)

    def _on_resigned(self, shard: int) -> None:
        if self._loop.chance(self._cluster.snapshot_fault_probability("resigned")):
            self.request_snapshot(self._loop.random.choice(self._cluster.hosts), shard)

    def request_snapshot(self, host: Host, shard: int, *, allow_leader: bool | None = None) -> None:
        """Ask a replica, standby or not, for a snapshot. All hear it: by the control topic."""
        if not host.alive:
            return
        self._count += 1
        if allow_leader is None:
            allow_leader = self._loop.chance(self._faults.leader)
        asked = m.SnapshotRequested(host.replica_name, f"s{self._count}", 1, allow_leader)
        self._tell_all(asked, shard)
        if self._loop.chance(self._faults.repeated):
            self._cluster.coverage.hit("snapshot orders repeated")
            self._tell_all(asked, shard)

    def _tell_all(self, asked: m.SnapshotRequested, shard: int) -> None:
        for host in self._cluster.hosts:
            if host.alive:
                host.processes[shard].inbox.put(asked)

    def trim(self, shard: int) -> None:
        """As the coordinator does it: before the oldest, when that is sound."""
        store, journal = self._cluster.stores[shard], self._cluster.topics[shard].journal
        anchor = policy.trim_anchor([each.manifest for each in store.snapshots])
        if anchor is None or not store.snapshots[-1].is_sound or anchor.offset <= journal.begin:
            return
        self._cluster.coverage.hit("journals trimmed")
        self._loop.trace("journal", "%d is trimmed before %d", shard, anchor.offset)
        journal.trim(anchor.offset)
