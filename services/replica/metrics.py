"""An engine's Prometheus metrics, in base units and with names as Prometheus' guide has them."""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from postjournal.cluster.states import (
    FailoverCause,
    FailoverPhase,
    ReplicaState,
    SnapshotState,
)
from postjournal.cluster.status import CatchUp
from postjournal.core import messages as m
from services.replica.messages import Family, Sample

PREFIX = "postjournal_"

MILLISECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
OUTCOMES = ("accepted", "rejected", "replayed")
KINDS = ("claim", "entry", "heartbeat", "resign")

ROLE = Gauge(
    "postjournal_role", "1 for the current role of the replica, 0 for the others", ["shard", "role"]
)
EPOCH = Gauge("postjournal_epoch", "Epoch of the current leadership", ["shard"])
SEQUENCE = Gauge(
    "postjournal_next_seq", "Commands decided since the start of the journal", ["shard"]
)
COMMANDS = Counter(
    "postjournal_commands",
    "Commands decided by this replica that are stable, by outcome",
    ["shard", "outcome"],
)
ENTRIES = Counter("postjournal_entries", "Own entries that were read back accepted", ["shard"])
APPEND_TO_STABLE = Histogram(
    "postjournal_append_to_stable_seconds",
    "From appending an entry to reading it back",
    ["shard"],
    buckets=MILLISECONDS,
)
END_TO_END = Histogram(
    "postjournal_end_to_end_seconds",
    "From the timestamp of an entry's oldest source record until the entry is stable",
    ["shard"],
    buckets=MILLISECONDS,
)
LAG_RECORDS = Gauge(
    "postjournal_standby_lag_records", "Journal records that are not yet applied", ["shard"]
)
LAG_SECONDS = Gauge(
    "postjournal_standby_lag_seconds",
    "Time since all known journal records were last applied",
    ["shard"],
)
FAILOVER = Histogram(
    "postjournal_failover_seconds",
    "Durations of takeovers by this replica, by phase",
    ["shard", "phase"],
    buckets=MILLISECONDS,
)
LAST_FAILOVER = Gauge(
    "postjournal_last_failover_seconds",
    "Duration of the latest takeover by this replica, by phase",
    ["shard", "phase"],
)
LAST_TAKEOVER = Gauge(
    "postjournal_last_takeover_timestamp_seconds",
    "When this replica last took over, since the Unix epoch",
    ["shard"],
)
TAKEOVERS = Counter(
    "postjournal_takeovers",
    "Takeovers by this replica, by the cause of its claim",
    ["shard", "cause"],
)
VOID = Counter(
    "postjournal_void_records", "Void records read from the journal, by kind", ["shard", "kind"]
)
ALARMS = Counter(
    "postjournal_digest_alarms",
    "Entries that are void only because of their running hash",
    ["shard"],
)
IMPAIRMENTS = Counter(
    "postjournal_impairments",
    "Leaderships that were left because a source or a sink made no progress",
    ["shard"],
)
SINK_LAG = Gauge(
    "postjournal_sink_lag_records",
    "Outputs that are not yet known to be in the topic",
    ["shard", "sink"],
)
SINK_SEQUENCE = Gauge(
    "postjournal_sink_next_seq",
    "Outputs of the sink since the start of the journal",
    ["shard", "sink"],
)
SNAPSHOT_SECONDS = Histogram(
    "postjournal_snapshot_take_seconds",
    "Durations of snapshots by this replica, from the fork to the manifest",
    ["shard"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
SNAPSHOT_FAILURES = Counter(
    "postjournal_snapshot_take_failures", "Snapshots by this replica that failed", ["shard"]
)
SNAPSHOT_FORK = Histogram(
    "postjournal_snapshot_fork_seconds",
    "How long the engine was stopped for the fork of a snapshot",
    ["shard"],
    buckets=MILLISECONDS,
)
SNAPSHOTS = (SNAPSHOT_SECONDS, SNAPSHOT_FAILURES, SNAPSHOT_FORK)
CATCH_UP_DONE = Gauge(
    "postjournal_catch_up_ratio", "Progress of a restore or a catch-up; 1: in sync", ["shard"]
)
CATCH_UP_RATE = Gauge(
    "postjournal_catch_up_commands_per_second", "Commands applied while catching up", ["shard"]
)
CATCH_UP_LEFT = Gauge(
    "postjournal_catch_up_left_seconds",
    "Time until the replica is in sync at the current rate",
    ["shard"],
)
IN_FLIGHT = Gauge(
    "postjournal_in_flight_entries", "Own records that are not yet read back", ["shard"]
)
POSITION = Gauge(
    "postjournal_journal_next_offset", "Journal offset after the last applied record", ["shard"]
)


def collect() -> list[Family]:
    """The metrics of this engine; those of Python and of the process are left out."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in REGISTRY.collect()
        if metric.name.startswith(PREFIX)
    ]


def initialize(shard: str) -> None:
    """Create the series of a shard: `increase` misses the first event of a series that begins with
    it."""
    for outcome in OUTCOMES:
        COMMANDS.labels(shard, outcome)
    for phase in FailoverPhase:
        FAILOVER.labels(shard, phase)
    for cause in FailoverCause:
        TAKEOVERS.labels(shard, cause)
    for kind in KINDS:
        VOID.labels(shard, kind)
    for family in (ENTRIES, APPEND_TO_STABLE, END_TO_END, ALARMS, IMPAIRMENTS, *SNAPSHOTS):
        family.labels(shard)


def count_entry(shard: str, entry: m.EntryStable, wall_ms: int) -> None:
    """Count an own entry that became stable; `wall_ms`: now, ms since the Unix epoch."""
    accepted = entry.commands - entry.rejected - entry.replayed
    counts = (accepted, entry.rejected, entry.replayed)
    for outcome, count in zip(OUTCOMES, counts, strict=True):
        if count:
            COMMANDS.labels(shard, outcome).inc(count)
    ENTRIES.labels(shard).inc()
    APPEND_TO_STABLE.labels(shard).observe(entry.append_ms / 1000)
    END_TO_END.labels(shard).observe(max(wall_ms - entry.oldest_ms, 0) / 1000)


def count_failover(shard: str, takeover: m.TookOver, wall_ms: int) -> None:
    """Count a takeover by this replica; `wall_ms`: now, ms since the Unix epoch."""
    parts = (takeover.detect_ms, takeover.claim_ms, takeover.resume_ms)
    for phase, duration_ms in zip(FailoverPhase, (*parts, sum(parts)), strict=True):
        FAILOVER.labels(shard, phase).observe(duration_ms / 1000)
        LAST_FAILOVER.labels(shard, phase).set(duration_ms / 1000)
    TAKEOVERS.labels(shard, takeover.cause).inc()
    LAST_TAKEOVER.labels(shard).set(wall_ms / 1000)


def show_role(shard: str, role: str) -> None:
    """Set the gauge of `role` to 1 and those of all other roles to 0."""
    for state in ReplicaState:
        ROLE.labels(shard, state).set(1 if state == role else 0)


def show_catch_up(shard: str, progress: CatchUp | None) -> None:
    """Set the gauges of a catch-up; `progress` is None for a replica that is in sync."""
    done = progress.done / max(progress.total, 1) if progress else 1.0
    CATCH_UP_DONE.labels(shard).set(done)
    CATCH_UP_RATE.labels(shard).set(progress.commands_per_s if progress else 0)
    CATCH_UP_LEFT.labels(shard).set((progress.left_s or 0) if progress else 0)


def count_snapshot(shard: str, progress: m.SnapshotProgressed) -> None:
    """Count the fork of a snapshot, its end, or its failure."""
    if progress.state is SnapshotState.WRITING and not progress.written:
        SNAPSHOT_FORK.labels(shard).observe(progress.fork_ms / 1000)
    elif progress.state is SnapshotState.DONE:
        SNAPSHOT_SECONDS.labels(shard).observe(progress.duration_ms / 1000)
    elif progress.state is SnapshotState.FAILED:
        SNAPSHOT_FAILURES.labels(shard).inc()
