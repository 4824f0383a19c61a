"""Somebody with rights on the journal who writes as its leader: the fold accepts what he writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.simulation.kernel import MS
from tests.simulation.ports import WALL_AT_START_MS
from tests.simulation.reference import Json

if TYPE_CHECKING:
    from tests.simulation.invariants import ShardAudit
    from tests.simulation.world import World

_COUNTED = {"entry": "entries", "heartbeat": "heartbeats", "resign": "resignations"}


def impose(world: World, shard: int, kind: str) -> None:
    """Append an `entry`, a `heartbeat` or a `resign` as the leader might have; else nothing."""
    audit = world.audit.shards[shard]
    fold = audit.fold
    if fold.leader is None or fold.resigned:
        return
    time = WALL_AT_START_MS + world.kernel.now_us // MS
    record: Json = {"kind": kind, "epoch": fold.epoch}
    if kind != "resign":
        marks = dict.fromkeys(audit.reference.outputs, 0) | fold.published
        record |= {"seq": fold.next_seq, "published": marks, "time": time}
    if kind == "entry":
        decided = _decided(world, audit, time)
        if decided is None:
            return
        record |= decided | {"digest_before": fold.digest}
    _land(world, audit, record)


def _decided(world: World, audit: ShardAudit, time: int) -> Json | None:
    """The source records that are next, decided as a leader would, unless that had to wait."""
    limits, reference = world.profile.limits, audit.reference
    backlogs = [
        len(outputs) - audit.fold.published.get(sink, 0)
        for sink, outputs in reference.outputs.items()
    ]
    waiting = {
        topic: len(partition.records) - reference.sources.get(topic, 0)
        for topic, partition in world.topics[audit.shard].sources.items()
    }
    topic = max(waiting, key=lambda each: waiting[each])
    if not waiting[topic] or max(backlogs) >= limits.unpublished_outputs:
        return None
    count = world.kernel.random.randint(1, min(waiting[topic], limits.batch_commands, 3))
    return reference.foretold(topic, count, time)


def _land(world: World, audit: ShardAudit, record: Json) -> None:
    journal, kind = world.topics[audit.shard].journal, record["kind"]
    audit.imposed.add(len(journal.records))
    leader = world.leader(audit.shard)
    leadership = leader.seats[audit.shard].replica.leadership if leader else None
    if kind == "entry" and leadership is not None and leadership.has_unconfirmed_entries:
        world.coverage.hit("entries of an impostor, own in flight")
    world.coverage.hit(f"{_COUNTED[kind]} of an impostor")
    journal.land(msgspec.json.encode(record))
