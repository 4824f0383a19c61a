"""What `watch` shows of a cluster, out of what was seen of it so far. Pure."""

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
KEPT = 60
FAILOVERS_SHOWN = 8
MARKS = {
    "leader": "[bold green]● leader[/]",
    "standby": "[green]○ standby[/]",
    "reader": "[green]◌ reader[/]",
    "halted": "[bold red]✘ halted[/]",
}


class Seen:
    """A cluster over time: rates and changes. `rates`: by shard, commands/s, oldest first."""

    def __init__(self) -> None:
        """Nothing was seen."""
        self.rates: dict[str, deque[float]] = {}
        self._last: dict[str, tuple[float, int]] = {}
        self._states: dict[tuple[str, int], str] | None = None
        self._failovers: set[tuple[int, int]] = set()

    def take(self, cluster: Cluster, at_s: float) -> list[str]:
        """The next look at it, at a monotonic time; what has changed since, in sentences."""
        for name, shard in cluster.shards.items():
            self._measure(name, shard, at_s)
        return [*self._changed_states(cluster), *self._took_over(cluster)]

    def _measure(self, name: str, shard: Shard, at_s: float) -> None:
        """A sequence comes once a second: a look in between tells no rate."""
        before_s, before_seq = self._last.get(name, (at_s, shard.seq))
        if shard.seq != before_seq or at_s - before_s >= 2:
            rate = max(shard.seq - before_seq, 0) / max(at_s - before_s, 0.001)
            self.rates.setdefault(name, deque(maxlen=KEPT)).append(rate)
            before_s = at_s
        elif name in self._last:
            return
        self._last[name] = (before_s, shard.seq)

    def _changed_states(self, cluster: Cluster) -> Iterator[str]:
        states = {(each.replica, each.shard): state_of(each) for each in cluster.replicas}
        before, self._states = self._states, states
        if before is None:
            return
        for (replica, shard), state in states.items():
            was = before.get((replica, shard), "absent")
            if was != state:
                yield f"shard {shard}: {replica} is {state}, was {was}"
        for replica, shard in before.keys() - states.keys():
            yield f"shard {shard}: {replica} is gone"

    def _took_over(self, cluster: Cluster) -> Iterator[str]:
        known = self._failovers
        for failover in cluster.failovers:
            key = (failover.shard, failover.epoch)
            if key not in known:
                known.add(key)
                yield failover.summary


def state_of(replica: Replica) -> str:
    """What it does, or that nothing is heard of it."""
    return "silent" if replica.silent else replica.state


def picture(cluster: Cluster, seen: Seen) -> RenderableType:
    """All of it."""
    return Group(
        _shards(cluster, seen), "", _replicas(cluster.replicas), "", _failovers(cluster.failovers)
    )


def sparkline(values: Iterable[float]) -> str:
    """A bar for each value, the highest one full."""
    kept = list(values)
    top = max(kept, default=0) or 1
    return "".join(BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] for value in kept)


def _shards(cluster: Cluster, seen: Seen) -> Table:
    table = Table("SHARD", "LEADER", "EPOCH", "SEQ", "COMMANDS/S", "", box=None, pad_edge=False)
    for name, shard in sorted(cluster.shards.items(), key=lambda pair: int(pair[0])):
        rates = seen.rates.get(name, deque())
        rate = f"{rates[-1]:,.0f}" if rates else "-"
        leader = escape(shard.leader) if shard.leader else "[bold red]none[/]"
        table.add_row(
            name, leader, str(shard.epoch), f"{shard.seq:,}", rate, sparkline(list(rates)[-30:])
        )
    return table


def _replicas(replicas: list[Replica]) -> Table:
    titles = ("REPLICA", "SHARD", "STATE", "EPOCH", "SEQ", "LAG", "HTTP")
    table = Table(*titles, box=None, pad_edge=False)
    for each in sorted(replicas, key=lambda each: (each.shard, each.replica)):
        state = state_of(each)
        lag = "-" if each.lag is None else f"{each.lag} ({each.lag_s:.1f} s)"
        cells = (each.replica, str(each.shard), str(each.epoch), f"{each.seq:,}", lag, each.http)
        name, shard, epoch, seq, lag, http = map(escape, cells)
        mark = MARKS.get(state, f"[yellow]… {escape(state)}[/]")
        table.add_row(name, shard, mark, epoch, seq, lag, http)
        if each.error:
            table.add_row("", "", f"[red]{escape(each.error)}[/]")
    return table


def _failovers(failovers: list[Failover]) -> Table:
    titles = ("FAILOVER", "SHARD", "FROM", "TO", "CAUSE", "DETECT", "CLAIM", "RESUME", "TOTAL")
    table = Table(*titles, box=None, pad_edge=False)
    for each in reversed(failovers[-FAILOVERS_SHOWN:]):
        at = datetime.fromtimestamp(each.time / 1000, UTC).strftime("%H:%M:%SZ")
        phases = (each.detect_ms, each.claim_ms, each.resume_ms, each.total_ms)
        table.add_row(
            at,
            str(each.shard),
            escape(each.previous or "-"),
            escape(each.leader),
            escape(each.cause),
            *(f"{phase:.0f} ms" for phase in phases),
        )
    return table
