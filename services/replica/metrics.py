"""What a replica tells Prometheus. Base units; names as Prometheus' guide has them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from postjournal.core import messages as m

MILLISECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
ROLES = (
    *("restoring", "catching_up", "standby", "claiming", "leader", "resigning", "rebuilding"),
    *("stopped", "halted"),
)

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
VOID = Counter("postjournal_void_records", "Void journal records read, by kind", ["shard", "kind"])
ALARMS = Counter("postjournal_digest_alarms", "Entries void only for their running hash", ["shard"])
SINK_LAG = Gauge(
    "postjournal_sink_lag_records", "Outputs not yet known to be in the topic", ["shard", "sink"]
)
IN_FLIGHT = Gauge("postjournal_in_flight_entries", "Own records not yet read back", ["shard"])


def count_entry(shard: str, entry: m.EntryStable, wall_ms: int) -> None:
    """An own entry is stable."""
    accepted = entry.commands - entry.rejected - entry.replayed
    for outcome, count in (
        ("accepted", accepted),
        ("rejected", entry.rejected),
        ("replayed", entry.replayed),
    ):
        if count:
            COMMANDS.labels(shard, outcome).inc(count)
    ENTRIES.labels(shard).inc()
    APPEND_TO_STABLE.labels(shard).observe(entry.append_ms / 1000)
    END_TO_END.labels(shard).observe(max(wall_ms - entry.oldest_ms, 0) / 1000)


def count_failover(shard: str, takeover: m.TookOver) -> None:
    """A takeover's phases; see `postjournal.status.Failover`."""
    phases = {
        "detect": takeover.detect_ms,
        "claim": takeover.claim_ms,
        "resume": takeover.resume_ms,
        "total": takeover.detect_ms + takeover.claim_ms + takeover.resume_ms,
    }
    for phase, duration_ms in phases.items():
        FAILOVER.labels(shard, phase).observe(duration_ms / 1000)


def show_role(shard: str, role: str) -> None:
    """Exactly one role is 1."""
    for each in ROLES:
        ROLE.labels(shard, each).set(1 if each == role else 0)
