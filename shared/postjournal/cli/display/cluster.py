"""The cluster view of `watch`, from what was observed so far. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from postjournal.cli.coordinator import Cluster, Replica, Shard
from postjournal.cluster.status import Failover

BARS = "▁▂▃▄▅▆▇█"
RATES_KEPT, RATES_SHOWN = 60, 30
FAILOVERS_SHOWN = 8
STATE_MARKS = {
    "leader": "[bold green]● leader[/]",
    "standby": "[green]○ standby[/]",
    "reader": "[green]◌ reader[/]",
    "halted": "[bold red]✘ halted[/]",
}


class ClusterHistory:
    """Rates and changes of a cluster over time. `rates`: shard → commands/s, oldest first."""

    def __init__(self) -> None:
        self.rates: dict[str, deque[float]] = {}
        self._last: dict[str, tuple[float, int]] = {}
        self._states: dict[tuple[str, int], str] | None = None
        self._failovers: set[tuple[int, int]] = set()

    def update(self, cluster: Cluster, now_s: float) -> list[str]:
        """Add an observation at a monotonic time; return what changed since the last, as text."""
        for name, shard in cluster.shards.items():
            self._measure(name, shard, now_s)
        return [*self._changed_states(cluster), *self._new_failovers(cluster)]

    def _measure(self, name: str, shard: Shard, now_s: float) -> None:
        """Replicas report a sequence once a second: an equal one within 2 s gives no rate."""
        before_s, before_seq = self._last.get(name, (now_s, shard.seq))
        if shard.seq != before_seq or now_s - before_s >= 2:
            rate = max(shard.seq - before_seq, 0) / max(now_s - before_s, 0.001)
            self.rates.setdefault(name, deque(maxlen=RATES_KEPT)).append(rate)
            before_s = now_s
        elif name in self._last:
            return
        self._last[name] = (before_s, shard.seq)

    def _changed_states(self, cluster: Cluster) -> Iterator[str]:
        states = {(row.replica, row.shard): state_of(row) for row in cluster.replicas}
        before, self._states = self._states, states
        if before is None:
            return
        for (replica, shard), state in states.items():
            previous = before.get((replica, shard), "absent")
            if previous != state:
                yield f"shard {shard}: {replica} is {state}, was {previous}"
        for replica, shard in before.keys() - states.keys():
            yield f"shard {shard}: {replica} is absent, was {before[replica, shard]}"

    def _new_failovers(self, cluster: Cluster) -> Iterator[str]:
        for failover in cluster.failovers:
            key = (failover.shard, failover.epoch)
            if key not in self._failovers:
                self._failovers.add(key)
                yield failover.summary


def state_of(replica: Replica) -> str:
    """Return the replica's state, or `silent` when it has stopped reporting."""
    return "silent" if replica.silent else replica.state


def render(cluster: Cluster, history: ClusterHistory) -> RenderableType:
    """Return the tables of shards, replicas and failovers."""
    return Group(
        _shards(cluster, history),
        "",
        _replicas(cluster.replicas),
        "",
        _failovers(cluster.failovers),
    )


def sparkline(values: Iterable[float]) -> str:
    """Return one bar for each value; the highest value is a full bar."""
    heights = list(values)
    top = max(heights, default=0) or 1
    return "".join(BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] for value in heights)


def _shards(cluster: Cluster, history: ClusterHistory) -> Table:
    table = Table("SHARD", "LEADER", "EPOCH", "SEQ", "COMMANDS/S", "", box=None, pad_edge=False)
    for name, shard in sorted(cluster.shards.items(), key=lambda pair: int(pair[0])):
        rates = list(history.rates.get(name, ()))
        rate = f"{rates[-1]:,.0f}" if rates else "-"
        leader = escape(shard.leader) if shard.leader else "[bold red]none[/]"
        bars = sparkline(rates[-RATES_SHOWN:])
        table.add_row(name, leader, str(shard.epoch), f"{shard.seq:,}", rate, bars)
    return table


def _replicas(replicas: list[Replica]) -> Table:
    titles = ("REPLICA", "SHARD", "STATE", "EPOCH", "SEQ", "LAG", "HTTP")
    table = Table(*titles, box=None, pad_edge=False)
    for row in sorted(replicas, key=lambda row: (row.shard, row.replica)):
        state = state_of(row)
        lag = "-" if row.lag is None else f"{row.lag} ({row.lag_s:.1f} s)"
        cells = (row.replica, str(row.shard), str(row.epoch), f"{row.seq:,}", lag, row.http)
        name, shard, epoch, seq, lag, http = map(escape, cells)
        mark = STATE_MARKS.get(state, f"[yellow]… {escape(state)}[/]")
        table.add_row(name, shard, mark, epoch, seq, lag, http)
        if row.error:
            table.add_row("", "", f"[red]{escape(row.error)}[/]")
    return table


def _failovers(failovers: list[Failover]) -> Table:
    titles = ("FAILOVER", "SHARD", "FROM", "TO", "CAUSE", "DETECT", "CLAIM", "RESUME", "TOTAL")
    table = Table(*titles, box=None, pad_edge=False)
    for failover in reversed(failovers[-FAILOVERS_SHOWN:]):
        at = datetime.fromtimestamp(failover.time / 1000, UTC).strftime("%H:%M:%SZ")
        phases = (failover.detect_ms, failover.claim_ms, failover.resume_ms, failover.total_ms)
        table.add_row(
            at,
            str(failover.shard),
            escape(failover.previous or "-"),
            escape(failover.leader),
            escape(failover.cause),
            *(f"{phase:.0f} ms" for phase in phases),
        )
    return table
