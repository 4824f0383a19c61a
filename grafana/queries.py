"""PromQL expressions, variables and panels that several dashboards share."""

from __future__ import annotations

from grafana.panels import Panel, Query, annotation, variable

REPLICA = 'shard=~"$shard",replica=~"$replica"'
SHARD = 'shard=~"$shard"'

ROLES = {
    1: ("standby", "blue"),
    2: ("leader", "green"),
    3: ("claiming", "yellow"),
    4: ("restoring", "purple"),
    5: ("catching_up", "purple"),
    6: ("rebuilding", "orange"),
    7: ("resigning", "yellow"),
    8: ("halted", "red"),
    9: ("stopped", "text"),
}
RED_FROM_ONE = ((None, "green"), (1, "red"))

SHARDS_AND_REPLICAS = (
    variable("shard", "Shard", "label_values(postjournal_epoch, shard)"),
    variable("replica", "Replica", f"label_values(postjournal_epoch{{{SHARD}}}, replica)"),
)
TAKEOVERS = annotation(
    "Takeovers",
    f"max by (shard, replica) (postjournal_last_takeover_timestamp_seconds{{{REPLICA}}}) * 1000",
    "takeover",
    "{{replica}} leads shard {{shard}}",
)


def rate(metric: str, labels: str) -> str:
    """The rate per second, over the shortest interval without gaps."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def quantile(share: float, metric: str, labels: str, by: str = "") -> str:
    """A quantile of a histogram; `by`: labels to keep, each followed by a comma."""
    return f"histogram_quantile({share}, sum by ({by}le) ({rate(f'{metric}_bucket', labels)}))"


def quantiles(metric: str, labels: str, by: str = "", legend: str = "") -> tuple[Query, ...]:
    """Queries for p50 and p99 of a histogram; arguments as for `quantile`."""
    return tuple(
        Query(quantile(share, metric, labels, by), f"{legend}{name}")
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )


def roles() -> str:
    """Each replica's role, as its number in `ROLES`."""
    numbered = (
        f'(postjournal_role{{{REPLICA},role="{role}"}} == 1) * {number}'
        for number, (role, _) in ROLES.items()
    )
    return f"max by (shard, replica) ({' or '.join(numbered)})"


def latest(metric: str, labels: str) -> str:
    """`metric` of the replica that took over last, for each shard."""
    when = f"postjournal_last_takeover_timestamp_seconds{{{SHARD}}}"
    newest = f"{when} == on (shard) group_left () max by (shard) ({when})"
    return f"{metric}{{{labels}}} and on (replica, shard) ({newest})"


ROLE_TIMELINE = Panel(
    "Roles",
    "The role of each replica in each shard. Red marks in all panels are takeovers.",
    [Query(roles(), "shard {{shard}} · {{replica}}")],
    kind="state-timeline",
    width=24,
    height=7,
    texts=ROLES,
)
