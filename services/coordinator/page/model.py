"""What the page shows, at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from postjournal.cluster.states import leads
from postjournal.cluster.status import CatchUp, Failover
from postjournal.cluster.view import ClusterView, ReplicaView
from services.coordinator.catalogue import Row
from services.coordinator.history import Curves

FAILOVERS_SHOWN, SNAPSHOTS_SHOWN = 12, 12

MARKS = {
    "leader": "●",
    "resigning": "◐",
    "standby": "○",
    "claiming": "◔",
    "reader": "◇",
    "restoring": "…",
    "catching_up": "…",
    "rebuilding": "…",
    "halted": "✘",
    "silent": "⚠",
    "deposed": "⚠",
    "no_leader": "✘",
}
"""A role can be told without colour."""

SEVERITY = {"leader": "good", "standby": "good", "reader": "good", "halted": "bad", "silent": "bad"}


@dataclass(frozen=True)
class ShardModel:
    """`since`: when the leadership began, ms since the Unix epoch."""

    shard: int
    leader: str | None
    epoch: int
    since: int
    seq: int
    digest: str
    curves: Curves

    @property
    def state(self) -> str:
        """For the mark."""
        return "leader" if self.leader else "no_leader"


@dataclass(frozen=True)
class ReplicaModel:
    """`state`: as it said, or silent, or deposed; `seen`: last word, ms since the Unix epoch."""

    replica: str
    shard: int
    state: str
    epoch: int
    seq: int
    lag: int | None
    lag_s: float
    seen: int
    http: str
    is_duplicate: bool
    error: str | None
    catch_up: CatchUp | None

    @property
    def mark(self) -> str:
        """A sign for the role."""
        return MARKS.get(self.state, "?")

    @property
    def tone(self) -> str:
        """Which colour goes with the role."""
        return SEVERITY.get(self.state, "warn")

    @property
    def key(self) -> str:
        """For ids in the page: names may hold any of a-z A-Z 0-9 . _ -"""
        return f"replica-{self.shard}-{self.replica}"


@dataclass(frozen=True)
class PageModel:
    """The contents of the page.

    `unavailable_reason`: why the coordinator cannot work; `store_unavailable_reason`: why the
    snapshots may not be up to date; both None when all is well.
    """

    shards: Sequence[ShardModel] = ()
    replicas: Sequence[ReplicaModel] = ()
    failovers: Sequence[Failover] = ()  # newest first
    snapshots: Sequence[Row] = ()  # newest first
    unavailable_reason: str | None = None
    store_unavailable_reason: str | None = None
    allow_crash: bool = False
    needs_token: bool = False


def shards_of(view: ClusterView, curves: dict[int, Curves]) -> list[ShardModel]:
    """One for each shard of which anything was heard, or that there must be."""
    found = []
    for shard, each in sorted(curves.items()):
        known = view.shards.get(shard)
        found.append(
            ShardModel(
                shard=shard,
                leader=known.leader if known else None,
                epoch=known.epoch if known else 0,
                since=known.since if known else 0,
                seq=known.seq if known else 0,
                digest=known.digest if known else "",
                curves=each,
            )
        )
    return found


def replicas_of(view: ClusterView, now: int) -> list[ReplicaModel]:
    """By shard and name."""
    by_place = sorted(view.replicas.values(), key=_place)
    epochs = {shard: known.epoch for shard, known in view.shards.items()}
    return [_replica(each, now, epochs) for each in by_place]


def _place(view: ReplicaView) -> tuple[int, str]:
    return view.status.shard, view.status.replica


def _state(view: ReplicaView, now: int, epoch: int) -> str:
    """A leader of an epoch that is over has not been heard since: it was killed, say."""
    status = view.status
    if view.is_silent(now):
        return "silent"
    is_deposed = leads(status.state) and status.epoch < epoch
    return "deposed" if is_deposed else status.state


def _replica(view: ReplicaView, now: int, epochs: Mapping[int, int]) -> ReplicaModel:
    status = view.status
    return ReplicaModel(
        replica=status.replica,
        shard=status.shard,
        state=_state(view, now, epochs.get(status.shard, 0)),
        epoch=status.epoch,
        seq=status.seq,
        lag=status.lag,
        lag_s=status.lag_s,
        seen=view.seen,
        http=status.http,
        is_duplicate=view.is_duplicate(now),
        error=status.error,
        catch_up=status.catch_up,
    )


def points(values: Iterable[int | None], top: float, width: int, height: int) -> str:
    """A curve as SVG has it: one value a second, the newest at the right edge."""
    kept = list(values)[-60:]
    start = 60 - len(kept)
    placed = [
        f"{(start + n) * width / 59:.1f},{height - value * (height - 2) / (top or 1) - 1:.1f}"
        for n, value in enumerate(kept)
        if value is not None
    ]
    return " ".join(placed)
