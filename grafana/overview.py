"""The state of everything on one page."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query
from grafana.queries import (
    BAD_FROM_ONE,
    REPLICA,
    SHARD,
    SHARDS_AND_REPLICAS,
    TAKEOVERS,
    WHO_LEADS,
    quantile,
    quantiles,
    rate,
)

JOURNAL = f"postjournal_journal_next_offset{{{REPLICA}}}"

PANELS = [
    Panel(
        "Shards without a leader",
        "Should be 0. Alert: NoLeader.",
        [Query(f"sum(shard:postjournal_leaders:sum{{{SHARD}}} < bool 1)")],
        kind="stat",
        width=4,
        height=4,
        colours=BAD_FROM_ONE,
    ),
    Panel(
        "Standbys",
        "Replicas that could take over at once; of the shard that has the fewest.",
        [Query(f"min(shard:postjournal_standbys:sum{{{SHARD}}})")],
        kind="stat",
        width=4,
        height=4,
        colours=((None, "red"), (1, "green")),
    ),
    Panel(
        "Commands",
        "Decided and stable in the journal, per second.",
        [Query(f"sum({rate('postjournal_commands_total', REPLICA)})")],
        kind="stat",
        unit="cps",
        width=4,
        height=4,
    ),
    Panel(
        "End to end, p99",
        "From a command's timestamp in its source topic to its entry being stable.",
        [Query(quantile(0.99, "postjournal_end_to_end_seconds", REPLICA))],
        kind="stat",
        unit="s",
        width=4,
        height=4,
        colours=((None, "green"), (0.1, "orange"), (1, "red")),
    ),
    Panel(
        "Epoch",
        "The generation of leadership; it rises by one with each change of leader.",
        [Query(f"shard:postjournal_epoch:max{{{SHARD}}}", "shard {{shard}}")],
        kind="stat",
        width=4,
        height=4,
    ),
    Panel(
        "Alerts",
        "Firing now; Prometheus' own page has their names, docs/operations.md what to do.",
        [Query('sum(ALERTS{alertstate="firing",severity!="info"}) or vector(0)')],
        kind="stat",
        width=4,
        height=4,
        colours=BAD_FROM_ONE,
    ),
    WHO_LEADS,
    Panel(
        "Commands by outcome",
        "Decided by leaders. A replayed one has an id that was decided before.",
        [Query(f"sum by (outcome) ({rate('postjournal_commands_total', REPLICA)})")],
        unit="cps",
        stacked=True,
    ),
    Panel(
        "End to end",
        "From a command's timestamp in its source topic to its entry being stable; of each "
        "entry its oldest command.",
        quantiles("postjournal_end_to_end_seconds", REPLICA),
        unit="s",
    ),
    Panel(
        "Append to stable",
        "From appending an entry to the journal until the leader has read it back.",
        quantiles("postjournal_append_to_stable_seconds", REPLICA),
        unit="s",
    ),
    Panel(
        "Journal",
        "Records per second by shard: entries, heartbeats, claims. An idle leader writes ten.",
        [
            Query(
                f"max by (shard) ({rate('postjournal_journal_next_offset', REPLICA)})",
                "shard {{shard}}: records",
            ),
            Query(
                f"sum by (shard) ({rate('postjournal_entries_total', REPLICA)})",
                "shard {{shard}}: entries",
            ),
        ],
        unit="wps",
    ),
    Panel(
        "Standby lag",
        "Since a replica was last known to have read the whole journal. Alert: StandbyLag.",
        [Query(f"postjournal_standby_lag_seconds{{{REPLICA}}}", "{{replica}} · {{shard}}")],
        unit="s",
    ),
    Panel(
        "Behind the furthest replica",
        "Journal records that a replica has still to apply, by what the furthest one has.",
        [
            Query(
                f"(max by (shard) ({JOURNAL}) - on (shard) group_right () {JOURNAL})",
                "{{replica}} · {{shard}}",
            )
        ],
    ),
    Panel(
        "Outputs not yet published",
        "On the leader, by sink. Alert: SinkStuck.",
        [
            Query(
                f"postjournal_sink_lag_records{{{REPLICA}}} and on (replica, shard) "
                'postjournal_role{role="leader"} == 1',
                "{{sink}} · {{shard}}",
            )
        ],
    ),
    Panel(
        "Consumers",
        "Outputs taken per second, and what waits in their topics. Alert: ConsumerStuck.",
        [
            Query(
                "sum by (sink) (rate(postjournal_consumer_outputs_total[$__rate_interval]))",
                "{{sink}}: outputs/s",
            ),
            Query("sum by (sink) (postjournal_consumer_lag_records)", "{{sink}}: waiting"),
        ],
    ),
    Panel(
        "Processors",
        "Of each process; 1 is one core.",
        [
            Query(
                "sum by (job, replica, instance) "
                "(rate(process_cpu_seconds_total[$__rate_interval]))",
                "{{job}} {{replica}} {{instance}}",
            )
        ],
    ),
    Panel(
        "Memory",
        "Resident, of each process. A replica holds the whole state of its shards.",
        [
            Query(
                "sum by (job, replica, instance) (process_resident_memory_bytes)",
                "{{job}} {{replica}} {{instance}}",
            )
        ],
        unit="bytes",
    ),
]

BOARD = Dashboard(
    uid="postjournal-overview",
    title="Overview",
    description="Commands in, results out, and who leads.",
    panels=PANELS,
    variables=SHARDS_AND_REPLICAS,
    annotations=[TAKEOVERS],
)
