"""The dashboard of leader changes: how often, how long, and in which phases."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query, stat
from grafana.queries import (
    REPLICA,
    ROLE_TIMELINE,
    SHARD,
    SHARDS_AND_REPLICAS,
    TAKEOVERS,
    latest,
    rate,
)

# Counted by the leader view: a replica's own counters are lost when it is killed.
OVER_RANGE = f"increase(postjournal_view_failover_seconds_bucket{{{SHARD}}}[$__range])"
TOTAL = f'{SHARD},phase="total"'
SUMMED = f"increase(postjournal_view_failover_seconds_sum{{{TOTAL}}}[$__range])"
PHASES = latest("postjournal_last_failover_seconds", SHARD)

PANELS = [
    stat(
        "Last takeover",
        "Measured by the new leader. detect: from the old leader's last record to the suspicion; "
        "claim: until the new leader had read back its claim; resume: until its first record was "
        "stable.",
        Query(PHASES, "{{phase}} · {{shard}}", True),
        unit="s",
        width=12,
        height=5,
        colors=((None, "green"), (0.25, "orange"), (1, "red")),
    ),
    stat(
        "Takeovers",
        "In the selected time range, by the reason why the new leader claimed.",
        Query(
            f"sum by (cause) (increase(postjournal_view_takeovers_total{{{SHARD}}}[$__range]))",
            "{{cause}}",
            True,
        ),
        width=6,
        height=5,
        decimals=0,
    ),
    stat(
        "Time without a leader",
        "Sum over all takeovers in the selected time range, by shard. Does not include shards "
        "without a takeover: see the alert NoLeader.",
        Query(f"sum by (shard) ({SUMMED})", "shard {{shard}}", True),
        unit="s",
        width=6,
        height=5,
    ),
    ROLE_TIMELINE,
    Panel(
        "Duration of takeovers",
        "In the selected time range: each bar counts the takeovers that took at most as long as "
        "its label and longer than the label to its left.",
        [
            Query(
                f"sum by (le) (increase(postjournal_view_failover_seconds_bucket{{{TOTAL}}}"
                "[$__range])) > 0",
                "{{le}} s",
                True,
                "heatmap",
            )
        ],
        kind="bargauge",
        decimals=0,
    ),
    Panel(
        "Phases",
        "Of the takeovers in the selected time range; interpolated between histogram buckets.",
        [
            Query(
                f"histogram_quantile({share}, sum by (phase, le) ({OVER_RANGE}))",
                f"{{{{phase}}}} {name}",
                True,
            )
            for share, name in ((0.5, "p50"), (0.99, "p99"))
        ],
        kind="bargauge",
        unit="s",
        options={"orientation": "horizontal"},
    ),
    Panel(
        "Phases of each takeover",
        "The phases of the latest takeover at each time: each step is a takeover.",
        [
            Query(
                f"max by (phase, shard) ({latest('postjournal_last_failover_seconds', SHARD)})",
                "{{phase}} · {{shard}}",
            )
        ],
        unit="s",
    ),
    Panel(
        "Epoch",
        "Increases by one with each change of leader. Alert: TooManyElections.",
        [Query(f"shard:postjournal_epoch:max{{{SHARD}}}", "shard {{shard}}")],
    ),
    Panel(
        "Void records",
        "Read per second, by kind, on the replica that read the most: late claims, and records of "
        "deposed leaders. They have no effect. Alerts: VoidEntries, DigestAlarm.",
        [
            Query(
                "max by (kind) (sum by (kind, replica) "
                f"({rate('postjournal_void_records_total', REPLICA)}))",
                "{{kind}}",
            ),
            Query(f"sum({rate('postjournal_digest_alarms_total', REPLICA)})", "digest alarms"),
        ],
    ),
    Panel(
        "In flight",
        "Records that a leader has appended and not yet read back.",
        [Query(f"postjournal_in_flight_entries{{{REPLICA}}}", "{{replica}} · {{shard}}")],
    ),
]

BOARD = Dashboard(
    uid="postjournal-failover",
    title="Failover",
    description="Changes of leader: how often, how long, and in which phases.",
    panels=PANELS,
    variables=SHARDS_AND_REPLICAS,
    annotations=[TAKEOVERS],
)
