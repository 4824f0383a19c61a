"""Forges journal records: written by another process as if by the leader, and accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.simulation.event_loop import MS
from tests.simulation.ports import WALL_AT_START_MS
from tests.simulation.reference import Json

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.invariants import ShardAudit

_COUNTED = {"entry": "entries", "heartbeat": "heartbeats", "resign": "resignations"}


def forge(cluster: SimulatedCluster, shard: int, kind: str) -> None:
    """Append an `entry`, `heartbeat` or `resign` that fits the journal; nothing if none would."""
    audit = cluster.audit.shards[shard]
    fold = audit.fold
    if fold.leader is None or fold.resigned:
        return
    time = WALL_AT_START_MS + cluster.loop.now_us // MS
    record: Json = {"kind": kind, "epoch": fold.epoch}
    if kind != "resign":
        marks = dict.fromkeys(audit.reference.outputs, 0) | fold.published
        record |= {"seq": fold.next_seq, "published": marks, "time": time}
    if kind == "entry":
        decided = _decided(cluster, audit, time)
        if decided is None:
            return
        record |= decided | {"digest_before": fold.digest}
    _land(cluster, audit, record)


def _decided(cluster: SimulatedCluster, audit: ShardAudit, time: int) -> Json | None:
    """Decide the next source records as a leader would; None if a leader would have to wait."""
    limits, reference = cluster.profile.limits, audit.reference
    backlogs = [
        len(outputs) - audit.fold.published.get(sink, 0)
        for sink, outputs in reference.outputs.items()
    ]
    waiting = {
        topic: len(partition.records) - reference.sources.get(topic, 0)
        for topic, partition in cluster.topics[audit.shard].sources.items()
    }
    topic = max(waiting, key=lambda name: waiting[name])
    if not waiting[topic] or max(backlogs) >= limits.unpublished_outputs:
        return None
    count = cluster.loop.random.randint(1, min(waiting[topic], limits.batch_commands, 3))
    return reference.predict(topic, count, time)


def _land(cluster: SimulatedCluster, audit: ShardAudit, record: Json) -> None:
    journal, kind = cluster.topics[audit.shard].journal, record["kind"]
    audit.forged.add(len(journal.records))
    leader = cluster.leader(audit.shard)
    leadership = leader.processes[audit.shard].replica.leadership if leader else None
    if kind == "entry" and leadership is not None and leadership.has_unconfirmed_entries:
        cluster.coverage.hit("forged entries, own in flight")
    cluster.coverage.hit(f"forged {_COUNTED[kind]}")
    journal.land(msgspec.json.encode(record))
