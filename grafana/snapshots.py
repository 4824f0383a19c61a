"""Snapshots: how old, how large, how long they take, and what a recovery would have to read."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query
from grafana.queries import BAD_FROM_ONE, REPLICA, SHARD, SHARDS_AND_REPLICAS, TAKEOVERS, quantiles

AGE = f"postjournal_snapshot_age_seconds{{{SHARD}}}"
JOURNAL = f"max by (shard) (postjournal_journal_next_offset{{{SHARD}}})"
GIVEN_UP = f"increase(postjournal_snapshot_failed_total{{{SHARD}}}[$__range])"
ATTEMPTS = f"increase(postjournal_snapshot_attempts_failed_total{{{SHARD}}}[$__range])"

PANELS = [
    Panel(
        "Store",
        "Whether the coordinator can use the snapshot store. Alert: SnapshotStoreAway.",
        [Query("min(postjournal_snapshot_store_up)")],
        kind="stat",
        width=4,
        height=4,
        texts={0: ("away", "red"), 1: ("works", "green")},
        options={"graphMode": "none"},
    ),
    Panel(
        "Age of the newest",
        "By shard; -1: there is none. Alert: SnapshotTooOld.",
        [Query(AGE, "shard {{shard}}")],
        kind="stat",
        unit="s",
        width=5,
        height=4,
        colours=((None, "red"), (0, "green"), (1800, "orange")),
    ),
    Panel(
        "Kept",
        "Snapshots in the store, by shard.",
        [Query(f"postjournal_snapshot_kept{{{SHARD}}}", "shard {{shard}}")],
        kind="stat",
        width=5,
        height=4,
    ),
    Panel(
        "Given up",
        "In the time shown: no replica could take them. Alert: SnapshotFailed.",
        [Query(f"sum({GIVEN_UP})", instant=True)],
        kind="stat",
        width=5,
        height=4,
        decimals=0,
        colours=BAD_FROM_ONE,
    ),
    Panel(
        "Attempts that failed",
        "In the time shown: another replica was asked after each.",
        [Query(f"sum({ATTEMPTS})", instant=True)],
        kind="stat",
        width=5,
        height=4,
        decimals=0,
        colours=((None, "green"), (1, "orange")),
    ),
    Panel(
        "Age",
        "Of the newest snapshot, by shard: a saw, whose teeth are snapshots.",
        [Query(AGE, "shard {{shard}}")],
        unit="s",
    ),
    Panel(
        "To be read after a restore",
        "Journal records after the newest snapshot: what a replica that starts has to read.",
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
        "The engine stands still",
        "While a replica forks the child that writes the snapshot.",
        quantiles("postjournal_snapshot_fork_seconds", REPLICA),
        unit="s",
    ),
    Panel(
        "Taken by",
        "Snapshots per replica in the time shown.",
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
        "Catching up",
        "How far each replica's restore and reading of the journal is; 100 %: in sync.",
        [Query(f"postjournal_catch_up_ratio{{{REPLICA}}}", "{{replica}} · {{shard}}")],
        unit="percentunit",
    ),
    Panel(
        "Rate of catching up",
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
    description="How old, how large, how long they take, and what a recovery has to read.",
    panels=PANELS,
    variables=SHARDS_AND_REPLICAS,
    annotations=[TAKEOVERS],
)
