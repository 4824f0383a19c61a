"""The dashboard of snapshots: age, size, duration, and the work of restoring them."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query, availability, stat
from grafana.queries import RED_FROM_ONE, REPLICA, SHARD, SHARDS_AND_REPLICAS, TAKEOVERS, quantiles

AGE = f"postjournal_snapshot_age_seconds{{{SHARD}}}"
JOURNAL = f"max by (shard) (postjournal_journal_next_offset{{{SHARD}}})"
GIVEN_UP = f"increase(postjournal_snapshot_failed_total{{{SHARD}}}[$__range])"
ATTEMPTS = f"increase(postjournal_snapshot_attempts_failed_total{{{SHARD}}}[$__range])"

PANELS = [
    availability(
        "Store",
        "Whether the coordinator can use the snapshot store. Alert: SnapshotStoreAway.",
        "min(postjournal_snapshot_store_up)",
    ),
    stat(
        "Age of the newest",
        "By shard; -1: the shard has no snapshot. Alert: SnapshotTooOld.",
        Query(AGE, "shard {{shard}}"),
        unit="s",
        width=5,
        colors=((None, "red"), (0, "green"), (1800, "orange")),
    ),
    stat(
        "Kept",
        "Snapshots in the store, by shard.",
        Query(f"postjournal_snapshot_kept{{{SHARD}}}", "shard {{shard}}"),
        width=5,
    ),
    stat(
        "Failed snapshots",
        "In the selected time range: no replica could take them. Alert: SnapshotFailed.",
        Query(f"sum({GIVEN_UP})", instant=True),
        width=5,
        decimals=0,
        colors=RED_FROM_ONE,
    ),
    stat(
        "Failed attempts",
        "In the selected time range: after each, the coordinator ordered another replica to try.",
        Query(f"sum({ATTEMPTS})", instant=True),
        width=5,
        decimals=0,
        colors=((None, "green"), (1, "orange")),
    ),
    Panel(
        "Age",
        "Of the newest snapshot, by shard; drops with each new snapshot.",
        [Query(AGE, "shard {{shard}}")],
        unit="s",
    ),
    Panel(
        "Records after the newest snapshot",
        "Journal records that a starting replica must read after restoring it.",
        [
            Query(
                f"{JOURNAL} - on (shard) max by (shard) (postjournal_snapshot_offset{{{SHARD}}})",
                "shard {{shard}}",
            )
        ],
    ),
    Panel(
        "Size",
        "Of the newest snapshot's object, compressed.",
        [Query(f"postjournal_snapshot_bytes{{{SHARD}}}", "shard {{shard}}")],
        unit="bytes",
    ),
    Panel(
        "Duration",
        "Of the newest snapshot, from the fork to the manifest.",
        [Query(f"postjournal_snapshot_duration_seconds{{{SHARD}}}", "shard {{shard}}")],
        unit="s",
    ),
    Panel(
        "Pause of the engine",
        "While a replica forks the child process that writes the snapshot.",
        quantiles("postjournal_snapshot_fork_seconds", REPLICA),
        unit="s",
    ),
    Panel(
        "Snapshots by replica",
        "Snapshots that each replica took in the selected time range.",
        [
            Query(
                "sum by (replica) "
                f"(increase(postjournal_snapshot_take_seconds_count{{{REPLICA}}}[$__range]))",
                "{{replica}}",
                True,
            )
        ],
        kind="bargauge",
        decimals=0,
        options={"orientation": "horizontal"},
    ),
    Panel(
        "Catch-up",
        "Progress of each replica in restoring a snapshot and reading the journal; 100 %: in sync.",
        [Query(f"postjournal_catch_up_ratio{{{REPLICA}}}", "{{replica}} · {{shard}}")],
        unit="percentunit",
    ),
    Panel(
        "Catch-up rate",
        "Commands applied per second while a replica is not in sync yet.",
        [
            Query(
                f"postjournal_catch_up_commands_per_second{{{REPLICA}}}", "{{replica}} · {{shard}}"
            )
        ],
        unit="cps",
    ),
]

BOARD = Dashboard(
    uid="postjournal-snapshots",
    title="Snapshots",
    description="Age, size and duration of snapshots, and the work of restoring them.",
    panels=PANELS,
    variables=SHARDS_AND_REPLICAS,
    annotations=[TAKEOVERS],
)
