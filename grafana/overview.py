"""The dashboard with the state of the whole system on one page."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query, stat
from grafana.queries import (
    RED_FROM_ONE,
    REPLICA,
    ROLE_TIMELINE,
    SHARD,
    SHARDS_AND_REPLICAS,
    TAKEOVERS,
    quantile,
    quantiles,
    rate,
)

JOURNAL = f"postjournal_journal_next_offset{{{REPLICA}}}"

ENGINE = "{{replica}} · {{shard}}"


def engines(expr: str) -> str:
    """`expr` without the labels that change when a replica's address does."""
    return f"sum by (shard, replica) ({expr})"


PANELS = [
    stat(
        "Shards without a leader",
        "Must be 0. Alert: NoLeader.",
        Query(f"sum(shard:postjournal_leaders:sum{{{SHARD}}} < bool 1)"),
        width=4,
        colors=RED_FROM_ONE,
    ),
    stat(
        "Standbys",
        "Replicas that can take over immediately, in the shard that has the fewest.",
        Query(f"min(shard:postjournal_standbys:sum{{{SHARD}}})"),
        width=4,
        colors=((None, "red"), (1, "green")),
    ),
    stat(
        "Commands",
        "Decided and stable in the journal, per second.",
        Query(f"sum({rate('postjournal_commands_total', REPLICA)})"),
        unit="cps",
        width=4,
    ),
    stat(
        "End to end, p99",
        "From a command's timestamp in its source topic until its entry is stable.",
        Query(quantile(0.99, "postjournal_end_to_end_seconds", REPLICA)),
        unit="s",
        width=4,
        colors=((None, "green"), (0.1, "orange"), (1, "red")),
    ),
    stat(
        "Epoch",
        "The number of the current leadership; increases by one with each change of leader.",
        Query(f"shard:postjournal_epoch:max{{{SHARD}}}", "shard {{shard}}"),
        width=4,
    ),
    stat(
        "Alerts",
        "Firing now. Prometheus shows their names; docs/operations.md has a section for each.",
        Query('sum(ALERTS{alertstate="firing",severity!="info"}) or vector(0)'),
        width=4,
        colors=RED_FROM_ONE,
    ),
    ROLE_TIMELINE,
    Panel(
        "Commands by outcome",
        "Decided by leaders, per second. replayed: the command's id was decided before.",
        [Query(f"sum by (outcome) ({rate('postjournal_commands_total', REPLICA)})")],
        unit="cps",
        stacked=True,
    ),
    Panel(
        "End to end",
        "From the timestamp of an entry's oldest command in its source topic until the entry is "
        "stable.",
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
        "Time since a replica was last known to have read the whole journal. Alert: StandbyLag.",
        [Query(f"postjournal_standby_lag_seconds{{{REPLICA}}}", "{{replica}} · {{shard}}")],
        unit="s",
    ),
    Panel(
        "Records behind the most advanced replica",
        "Journal records that a replica has not applied yet, but another replica has.",
        [
            Query(
                f"(max by (shard) ({JOURNAL}) - on (shard) group_right () {JOURNAL})",
                "{{replica}} · {{shard}}",
            )
        ],
    ),
    Panel(
        "Unpublished outputs",
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
        "Outputs consumed per second, and outputs waiting in the topics. Alert: ConsumerStuck.",
        [
            Query(
                "sum by (sink) (rate(postjournal_consumer_outputs_total[$__rate_interval]))",
                "{{sink}}: outputs/s",
            ),
            Query("sum by (sink) (postjournal_consumer_lag_records)", "{{sink}}: waiting"),
        ],
    ),
    Panel(
        "Engines: CPU",
        "Cores used by the engine of each shard, with its Kafka clients.",
        [Query(engines(rate("postjournal_engine_cpu_seconds_total", REPLICA)), ENGINE)],
    ),
    Panel(
        "Engines: memory",
        "Resident memory of the engine of each shard, which holds the whole state of the shard.",
        [Query(engines(f"postjournal_engine_resident_memory_bytes{{{REPLICA}}}"), ENGINE)],
        unit="bytes",
    ),
    Panel(
        "Engines: threads",
        "Of the engine of each shard; most are those of its Kafka clients.",
        [Query(engines(f"postjournal_engine_threads{{{REPLICA}}}"), ENGINE)],
    ),
    Panel(
        "Engines: ends",
        "In five minutes, by cause: a signal, an exit code, or stuck. Alert: TooManyEngineEnds.",
        [
            Query(
                "sum by (shard, replica, cause) "
                f"(increase(postjournal_engine_ends_total{{{REPLICA}}}[5m]))",
                f"{ENGINE}: {{{{cause}}}}",
            )
        ],
    ),
    Panel(
        "Other processes: CPU",
        "Cores used by each process that is not an engine; of a replica, its HTTP process.",
        [
            Query(
                "sum by (job, replica, instance) "
                "(rate(process_cpu_seconds_total[$__rate_interval]))",
                "{{job}} {{replica}} {{instance}}",
            )
        ],
    ),
    Panel(
        "Other processes: memory",
        "Resident memory of each process that is not an engine; of a replica, its HTTP process.",
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
    description="Leaders, commands, latency, consumers and resources.",
    panels=PANELS,
    variables=SHARDS_AND_REPLICAS,
    annotations=[TAKEOVERS],
)
