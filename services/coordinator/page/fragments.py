"""The fragments of the live page, each of which is replaced on its own when it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from postjournal.cluster.states import FailoverPhase, is_final
from postjournal.cluster.status import Failover
from services.coordinator.page.model import PageModel, ReplicaModel, ShardModel
from services.web import render

WIDTH, HEIGHT = 240, 44
"""Of a curve, in the units of its SVG."""

SECONDS_SHOWN = 60


class Fragment(NamedTuple):
    """One element. `id`: its own; `into`: that of the enclosing element; `html`: the element."""

    id: str
    into: str
    html: str


def fragments_of(model: PageModel) -> Iterator[Fragment]:
    """All fragments of the page; an enclosing one comes before those in it."""
    yield Fragment("notices", "state", _html("notices", model=model))
    for shard in model.shards:
        key = f"shard-{shard.shard}"
        yield Fragment(key, "shards", shard_card(model, shard))
        yield Fragment(f"{key}-figures", key, shard_figures(shard))
    for replica in model.replicas:
        yield Fragment(replica.key, "replicas", replica_card(model, replica))
        yield Fragment(f"{replica.key}-figures", replica.key, replica_figures(replica))
    yield Fragment("failover-list", "failovers", failover_list(model))
    yield Fragment("snapshot-list", "snapshots", snapshot_list(model))


def shard_card(model: PageModel, shard: ShardModel, figures: str = "") -> str:
    """The card of a shard, which changes with the leader; `figures`: HTML to put into it."""
    return _html("shard", model=model, shard=shard, figures=figures)


def shard_figures(shard: ShardModel) -> str:
    """The figures of a shard, which change every second."""
    curves = shard.curves
    latencies = [value for value in curves.p99_ms[-SECONDS_SHOWN:] if value is not None]
    top_rate = max(curves.rates[-SECONDS_SHOWN:], default=0)
    top_ms = max(latencies, default=0)
    return _html(
        "shard-figures",
        shard=shard,
        width=WIDTH,
        height=HEIGHT,
        rate=_last(curves.rates),
        top_rate=top_rate,
        top_ms=top_ms,
        p50_ms=_last(curves.p50_ms),
        p99_ms=_last(curves.p99_ms),
        rates=svg_points(curves.rates, top_rate, WIDTH, HEIGHT),
        p50s=svg_points(curves.p50_ms, top_ms, WIDTH, HEIGHT),
        p99s=svg_points(curves.p99_ms, top_ms, WIDTH, HEIGHT),
    )


def replica_card(model: PageModel, replica: ReplicaModel, figures: str = "") -> str:
    """The card of a replica, which changes with its state; `figures`: HTML to put into it."""
    return _html("replica", model=model, replica=replica, figures=figures)


def replica_figures(replica: ReplicaModel) -> str:
    """The figures of a replica, which change every second."""
    return _html("replica-figures", replica=replica)


def failover_list(model: PageModel) -> str:
    """The failovers, newest first, with bars for their phases that share one scale."""
    longest = max((failover.total_ms for failover in model.failovers), default=0)
    return _html("failovers", failovers=model.failovers, bars=_bars, longest=longest or 1)


def snapshot_list(model: PageModel) -> str:
    """The snapshots, newest first."""
    return _html("snapshots", model=model, is_final=is_final)


def svg_points(values: Sequence[int | None], top: float, width: int, height: int) -> str:
    """The points of an SVG polyline, one value per second, the newest at the right edge.

    `top`: the value at the upper edge; None values are skipped.
    """
    shown = values[-SECONDS_SHOWN:]
    start = SECONDS_SHOWN - len(shown)
    last = SECONDS_SHOWN - 1
    points = [
        f"{(start + n) * width / last:.1f},{height - value * (height - 2) / (top or 1) - 1:.1f}"
        for n, value in enumerate(shown)
        if value is not None
    ]
    return " ".join(points)


def _last(values: Sequence[int | None]) -> int | None:
    return next((value for value in reversed(values) if value is not None), None)


def _bars(failover: Failover, longest: float) -> list[tuple[str, float, float]]:
    """(phase, start, length) of each phase, in percent of `longest` (ms)."""
    bars: list[tuple[str, float, float]] = []
    start = 0.0
    for phase in (FailoverPhase.DETECT, FailoverPhase.CLAIM, FailoverPhase.RESUME):
        length = failover.duration_ms(phase) * 100 / longest
        bars.append((phase, round(start, 1), round(length, 1)))
        start += length
    return bars


def _html(name: str, **values: Any) -> str:
    return render(f"live/{name}.html", **values)
