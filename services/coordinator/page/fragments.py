"""The page in parts, each replaced by itself when it changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from postjournal.cluster.status import Failover
from services.coordinator.page.model import (
    MARKS,
    SEVERITY,
    PageModel,
    ReplicaModel,
    ShardModel,
    points,
)
from services.web import render

WIDTH, HEIGHT = 240, 44


class Part(NamedTuple):
    """`id`: of its element; `into`: of the element that it is in; `html`: the element."""

    id: str
    into: str
    html: str


def parts_of(model: PageModel) -> Iterator[Part]:
    """Whatever encloses a part comes before it."""
    yield Part("notices", "state", _html("notices", model=model))
    for shard in model.shards:
        key = f"shard-{shard.shard}"
        yield Part(key, "shards", shard_card(model, shard))
        yield Part(f"{key}-figures", key, shard_figures(shard))
    for replica in model.replicas:
        yield Part(replica.key, "replicas", replica_card(model, replica))
        yield Part(f"{replica.key}-figures", replica.key, replica_figures(replica))
    yield Part("failover-list", "failovers", failover_list(model))
    yield Part("snapshot-list", "snapshots", snapshot_list(model))


def shard_card(model: PageModel, shard: ShardModel, figures: str = "") -> str:
    """What changes with the leader only."""
    mark = MARKS[shard.state]
    tone = "good" if shard.leader else "bad"
    return _html("shard", model=model, shard=shard, mark=mark, tone=tone, figures=figures)


def shard_figures(shard: ShardModel) -> str:
    """What changes all the time."""
    curves = shard.curves
    latencies = [value for value in curves.p99_ms[-60:] if value is not None]
    top_rate, top_ms = max(curves.rates[-60:], default=0), max(latencies, default=0)
    return _html(
        "shard-figures",
        shard=shard,
        width=WIDTH,
        height=HEIGHT,
        rate=curves.rates[-1] if curves.rates else None,
        top_rate=top_rate,
        top_ms=top_ms,
        p50_ms=next((v for v in reversed(curves.p50_ms) if v is not None), None),
        p99_ms=next((v for v in reversed(curves.p99_ms) if v is not None), None),
        rates=points(curves.rates, top_rate, WIDTH, HEIGHT),
        p50s=points(curves.p50_ms, top_ms, WIDTH, HEIGHT),
        p99s=points(curves.p99_ms, top_ms, WIDTH, HEIGHT),
    )


def replica_card(model: PageModel, replica: ReplicaModel, figures: str = "") -> str:
    """What changes with the role only."""
    return _html("replica", model=model, replica=replica, figures=figures)


def replica_figures(replica: ReplicaModel) -> str:
    """What changes all the time."""
    return _html("replica-figures", replica=replica)


def failover_list(model: PageModel) -> str:
    """The newest first, each with its phases to scale."""
    longest = max((each.total_ms for each in model.failovers), default=0)
    return _html("failovers", failovers=model.failovers, bars=_bars, longest=longest or 1)


def snapshot_list(model: PageModel) -> str:
    """The newest first."""
    return _html("snapshots", model=model)


def _bars(failover: Failover, longest: float) -> list[tuple[str, float, float]]:
    """(phase, where its bar begins, how long it is), in percent of the longest failover."""
    found, start = [], 0.0
    for phase in ("detect", "claim", "resume"):
        length = getattr(failover, f"{phase}_ms") * 100 / longest
        found.append((phase, round(start, 1), round(length, 1)))
        start += length
    return found


def _html(name: str, **values: Any) -> str:
    return render(f"live/{name}.html", marks=MARKS, tones=SEVERITY, **values)
