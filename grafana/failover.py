"""How leaders change, how long it takes, and what it is made of."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query
from grafana.queries import REPLICA, SHARD, SHARDS_AND_REPLICAS, TAKEOVERS, WHO_LEADS, latest, rate

# What leader-view counts: what a replica has counted is gone when it is killed.
OVER_RANGE = f"increase(postjournal_view_failover_seconds_bucket{{{SHARD}}}[$__range])"
TOTAL = f'{SHARD},phase="total"'
SUMMED = f"increase(postjournal_view_failover_seconds_sum{{{TOTAL}}}[$__range])"
PHASES = latest("postjournal_last_failover_seconds", SHARD)

PANELS = [
    Panel(
        "The last takeover",
        "As the new leader measured it. detect: from the old leader's last record to the "
        "suspicion; claim: until its own claim was read back; resume: until its first record "
        "was stable.",
        [
            Query(
                PHASES,
                "{{phase}} · {{shard}}",
                True,
            )
        ],
        kind="stat",
        unit="s",
        width=12,
        height=5,
        colours=((None, "green"), (0.25, "orange"), (1, "red")),
    ),
    Panel(
        "Takeovers",
        "In the time shown, by what made the new leader claim.",
        [
            Query(
                f"sum by (cause) (increase(postjournal_view_takeovers_total{{{SHARD}}}[$__range]))",
                "{{cause}}",
                True,
            )
        ],
        kind="stat",
        width=6,
        height=5,
        decimals=0,
    ),
    Panel(
        "Time without a leader",
        "In the time shown: the sum of all takeovers, by shard. Shards in which nobody took "
        "over are not in it: see NoLeader.",
        [Query(f"sum by (shard) ({SUMMED})", "shard {{shard}}", True)],
        kind="stat",
        unit="s",
        width=6,
        height=5,
    ),
    WHO_LEADS,
    Panel(
        "How long takeovers took",
        "In the time shown, by duration: how many took no longer than the bar says, and "
        "longer than the bar to its left.",
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
        "Of the takeovers in the time shown; interpolated between a histogram's buckets.",
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
        "The latest takeover's phases as they were at each time: a step is a takeover.",
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
        "Rises by one with each change of leader. Alert: TooManyElections.",
        [Query(f"shard:postjournal_epoch:max{{{SHARD}}}", "shard {{shard}}")],
    ),
    Panel(
        "Void records",
        "Read per second, by kind, as the replica saw them that saw most: late claims, and "
        "what deposed leaders wrote. They count nowhere. Alerts: VoidEntries, DigestAlarm.",
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
    description="How leaders change, how long it takes, and what it is made of.",
    panels=PANELS,
    variables=SHARDS_AND_REPLICAS,
    annotations=[TAKEOVERS],
)
