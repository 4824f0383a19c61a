"""What a replica tells Prometheus. Base units; names as Prometheus' guide has them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from postjournal.cluster.states import FailoverCause, FailoverPhase, ReplicaState
from postjournal.cluster.status import CatchUp
from postjournal.core import messages as m

MILLISECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
OUTCOMES = ("accepted", "rejected", "replayed")
KINDS = ("claim", "entry", "heartbeat", "resign")

ROLE = Gauge("postjournal_role", "1 for the role that the replica has", ["shard", "role"])
EPOCH = Gauge("postjournal_epoch", "The generation of leadership", ["shard"])
SEQUENCE = Gauge("postjournal_next_seq", "Commands accepted since the journal's start", ["shard"])
COMMANDS = Counter(
    "postjournal_commands", "Commands decided here and stable, by outcome", ["shard", "outcome"]
)
ENTRIES = Counter("postjournal_entries", "Own entries read back accepted", ["shard"])
APPEND_TO_STABLE = Histogram(
    "postjournal_append_to_stable_seconds",
    "From appending an entry to reading it back",
    ["shard"],
    buckets=MILLISECONDS,
)
END_TO_END = Histogram(
    "postjournal_end_to_end_seconds",
    "From the source record's timestamp to its entry being stable; each entry's oldest command",
    ["shard"],
    buckets=MILLISECONDS,
)
LAG_RECORDS = Gauge("postjournal_standby_lag_records", "Journal records not yet applied", ["shard"])
LAG_SECONDS = Gauge(
    "postjournal_standby_lag_seconds", "Since everything known was last applied", ["shard"]
)
FAILOVER = Histogram(
    "postjournal_failover_seconds",
    "Takeovers by this replica, by phase",
    ["shard", "phase"],
    buckets=MILLISECONDS,
)
LAST_FAILOVER = Gauge(
    "postjournal_last_failover_seconds",
    "The latest takeover by this replica, by phase",
    ["shard", "phase"],
)
LAST_TAKEOVER = Gauge(
    "postjournal_last_takeover_timestamp_seconds",
    "When this replica last took over, since the Unix epoch",
    ["shard"],
)
TAKEOVERS = Counter(
    "postjournal_takeovers", "Takeovers by this replica, by what made it claim", ["shard", "cause"]
)
VOID = Counter("postjournal_void_records", "Void journal records read, by kind", ["shard", "kind"])
ALARMS = Counter("postjournal_digest_alarms", "Entries void only for their running hash", ["shard"])
SINK_LAG = Gauge(
    "postjournal_sink_lag_records", "Outputs not yet known to be in the topic", ["shard", "sink"]
)
SINK_SEQUENCE = Gauge(
    "postjournal_sink_next_seq", "Outputs of the sink since the journal's start", ["shard", "sink"]
)
SNAPSHOT_SECONDS = Histogram(
    "postjournal_snapshot_take_seconds",
    "Snapshots taken here, from the fork to the manifest",
    ["shard"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
SNAPSHOT_FAILURES = Counter(
    "postjournal_snapshot_take_failures", "Snapshots that failed here", ["shard"]
)
SNAPSHOT_FORK = Histogram(
    "postjournal_snapshot_fork_seconds",
    "How long the engine stood still for the fork of a snapshot",
    ["shard"],
    buckets=MILLISECONDS,
)
SNAPSHOTS = (SNAPSHOT_SECONDS, SNAPSHOT_FAILURES, SNAPSHOT_FORK)
CATCH_UP_DONE = Gauge(
    "postjournal_catch_up_ratio", "How far a restore or catching up is; 1: in sync", ["shard"]
)
CATCH_UP_RATE = Gauge(
    "postjournal_catch_up_commands_per_second", "Commands applied while catching up", ["shard"]
)
CATCH_UP_LEFT = Gauge(
    "postjournal_catch_up_left_seconds", "Until it is in sync at the present rate", ["shard"]
)
IN_FLIGHT = Gauge("postjournal_in_flight_entries", "Own records not yet read back", ["shard"])
POSITION = Gauge(
    "postjournal_journal_next_offset", "The journal's offset up to which it was applied", ["shard"]
)


class NamedRegistry(Collector):
    """The process's metrics, each with the name by which people know the replica.

    Prometheus adds the address, which says nothing to a reader of `status` or of a log. Added
    here, when it asks, it costs the engine nothing.
    """

    def __init__(self, replica: str) -> None:
        """`replica`: the value of the label of the same name."""
        self._label = {"replica": replica}

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        for metric in REGISTRY.collect():
            metric.samples = [
                sample._replace(labels=self._label | sample.labels) for sample in metric.samples
            ]
            yield metric


def registry_of(replica: str) -> CollectorRegistry:
    """What `/metrics` shows."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NamedRegistry(replica))
    return registry


def begin(shard: str) -> None:
    """Show zeros: a series that begins with its first event hides that event from `increase`."""
    for outcome in OUTCOMES:
        COMMANDS.labels(shard, outcome)
    for phase in FailoverPhase:
        FAILOVER.labels(shard, phase)
    for cause in FailoverCause:
        TAKEOVERS.labels(shard, cause)
    for kind in KINDS:
        VOID.labels(shard, kind)
    for family in (ENTRIES, APPEND_TO_STABLE, END_TO_END, ALARMS, *SNAPSHOTS):
        family.labels(shard)


def count_entry(shard: str, entry: m.EntryStable, wall_ms: int) -> None:
    """An own entry is stable."""
    accepted = entry.commands - entry.rejected - entry.replayed
    counts = (accepted, entry.rejected, entry.replayed)
    for outcome, count in zip(OUTCOMES, counts, strict=True):
        if count:
            COMMANDS.labels(shard, outcome).inc(count)
    ENTRIES.labels(shard).inc()
    APPEND_TO_STABLE.labels(shard).observe(entry.append_ms / 1000)
    END_TO_END.labels(shard).observe(max(wall_ms - entry.oldest_ms, 0) / 1000)


def count_failover(shard: str, takeover: m.TookOver, wall_ms: int) -> None:
    """A takeover's phases; see `postjournal.cluster.status.Failover`."""
    parts = (takeover.detect_ms, takeover.claim_ms, takeover.resume_ms)
    for phase, duration_ms in zip(FailoverPhase, (*parts, sum(parts)), strict=True):
        FAILOVER.labels(shard, phase).observe(duration_ms / 1000)
        LAST_FAILOVER.labels(shard, phase).set(duration_ms / 1000)
    TAKEOVERS.labels(shard, takeover.cause).inc()
    LAST_TAKEOVER.labels(shard).set(wall_ms / 1000)


def show_role(shard: str, role: str) -> None:
    """Exactly one role is 1."""
    for state in ReplicaState:
        ROLE.labels(shard, state).set(1 if state == role else 0)


def show_catch_up(shard: str, progress: CatchUp | None) -> None:
    """None: in sync."""
    done = progress.done / max(progress.total, 1) if progress else 1.0
    CATCH_UP_DONE.labels(shard).set(done)
    CATCH_UP_RATE.labels(shard).set(progress.commands_per_s if progress else 0)
    CATCH_UP_LEFT.labels(shard).set((progress.left_s or 0) if progress else 0)


def count_snapshot(shard: str, progress: m.SnapshotProgressed) -> None:
    """Its end, well or not."""
    if progress.state == "writing" and not progress.written:
        SNAPSHOT_FORK.labels(shard).observe(progress.fork_ms / 1000)
    elif progress.state == "done":
        SNAPSHOT_SECONDS.labels(shard).observe(progress.duration_ms / 1000)
    elif progress.state == "failed":
        SNAPSHOT_FAILURES.labels(shard).inc()
