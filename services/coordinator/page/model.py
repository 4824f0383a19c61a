"""The contents of the live page at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postjournal.cluster.states import NO_LEADER, ReplicaState, leads
from postjournal.cluster.status import CatchUp, Failover
from postjournal.cluster.view import ClusterView, ReplicaView
from services.coordinator.load_history import Curves
from services.coordinator.snapshots import Row

FAILOVERS_SHOWN, SNAPSHOTS_SHOWN = 12, 12

SILENT, DEPOSED = "silent", "deposed"
"""States of replicas on this page only, in addition to `ReplicaState`."""

MARKS: Mapping[str, str] = {
    ReplicaState.LEADER: "●",
    ReplicaState.RESIGNING: "◐",
    ReplicaState.STANDBY: "○",
    ReplicaState.CLAIMING: "◔",
    ReplicaState.READER: "◇",
    ReplicaState.RESTORING: "…",
    ReplicaState.CATCHING_UP: "…",
    ReplicaState.REBUILDING: "…",
    ReplicaState.HALTED: "✘",
    SILENT: "⚠",
    DEPOSED: "⚠",
    NO_LEADER: "✘",
}
"""State → the sign that distinguishes it without color."""

UNKNOWN_MARK = "?"

SEVERITY: Mapping[str, str] = {
    ReplicaState.LEADER: "good",
    ReplicaState.STANDBY: "good",
    ReplicaState.READER: "good",
    ReplicaState.HALTED: "bad",
    SILENT: "bad",
}
"""State → good or bad; `warn` for all others. They are classes of `style.css`."""


@dataclass(frozen=True)
class ShardModel:
    """One shard. `since`: when the leadership began, ms since the Unix epoch, or 0."""

    shard: int
    leader: str | None
    epoch: int
    since: int
    seq: int
    digest: str
    curves: Curves

    @property
    def mark(self) -> str:
        """The sign of whether there is a leader."""
        return MARKS[ReplicaState.LEADER if self.leader else NO_LEADER]

    @property
    def severity(self) -> str:
        return "good" if self.leader else "bad"


@dataclass(frozen=True)
class ReplicaModel:
    """One replica in one shard.

    `state`: a `ReplicaState`, `SILENT` or `DEPOSED`; `seen`: when it last wrote a status, ms since
    the Unix epoch; the others are as in its `ReplicaStatus`.
    """

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
    last_end: str | None

    @property
    def mark(self) -> str:
        """The sign of its state."""
        return MARKS.get(self.state, UNKNOWN_MARK)

    @property
    def severity(self) -> str:
        return SEVERITY.get(self.state, "warn")

    @property
    def key(self) -> str:
        """A prefix for ids in the page; names consist of a-z A-Z 0-9 . _ and -."""
        return f"replica-{self.shard}-{self.replica}"

    @property
    def is_silent(self) -> bool:
        """Whether it has stopped writing statuses."""
        return self.state == SILENT

    @property
    def is_standby(self) -> bool:
        """Whether it can be made the leader."""
        return self.state == ReplicaState.STANDBY


@dataclass(frozen=True)
class PageModel:
    """The contents of the page; failovers and snapshots are newest first.

    `unavailable_reason`: why the coordinator cannot work, None when it can;
    `store_unavailable_reason`: why the snapshots may be outdated, None when they are not;
    `needs_token`: whether changes require the token.
    """

    shards: Sequence[ShardModel] = ()
    replicas: Sequence[ReplicaModel] = ()
    failovers: Sequence[Failover] = ()
    snapshots: Sequence[Row] = ()
    unavailable_reason: str | None = None
    store_unavailable_reason: str | None = None
    allow_crash: bool = False
    needs_token: bool = False


def shards_of(view: ClusterView, curves: Mapping[int, Curves]) -> list[ShardModel]:
    """All shards by number, including those that no replica has reported. `curves`: by shard."""
    return [_shard(view, shard, curves[shard]) for shard in sorted(curves)]


def _shard(view: ClusterView, shard: int, curves: Curves) -> ShardModel:
    known = view.shards.get(shard)
    return ShardModel(
        shard=shard,
        leader=known.leader if known else None,
        epoch=known.epoch if known else 0,
        since=known.since if known else 0,
        seq=known.seq if known else 0,
        digest=known.digest if known else "",
        curves=curves,
    )


def replicas_of(view: ClusterView, now: int) -> list[ReplicaModel]:
    """All replicas by shard and name. `now`: ms since the Unix epoch."""
    epochs = {shard: known.epoch for shard, known in view.shards.items()}
    replicas = [_replica(replica, now, epochs) for replica in view.replicas.values()]
    return sorted(replicas, key=lambda replica: (replica.shard, replica.replica))


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
        last_end=status.last_end,
    )


def _state(view: ReplicaView, now: int, epoch: int) -> str:
    """A leader of an earlier epoch has written no status since, for example because it died."""
    status = view.status
    if view.is_silent(now):
        return SILENT
    is_deposed = leads(status.state) and status.epoch < epoch
    return DEPOSED if is_deposed else status.state
