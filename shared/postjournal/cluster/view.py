"""Folds the status topic into leaders, replicas and failovers. Pure, without a clock.

Used for display and routing; safety does not depend on it. Times are ms since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from postjournal.cluster.states import NO_LEADER, ReplicaState
from postjournal.cluster.status import Failover, ReplicaStatus, SnapshotProgress, StatusRecord

MAX_FAILOVERS = 1_000

SILENT_MS = 5_000
"""Replicas write a status once a second; one that has missed five is silent."""

FORGET_MS = 600_000
"""A replica that has been silent for so long is dropped, because containers get new names."""

MAX_FORMER_INCARNATIONS = 16


@dataclass(frozen=True)
class ShardView:
    """One shard according to all statuses.

    `state`: the leader's, or `states.NO_LEADER`; `since`: when the leadership began; `address`,
    `http`: the leader's tripwire and HTTP interface, host:port.
    """

    leader: str | None
    address: str | None
    http: str | None
    epoch: int
    since: int
    state: str
    seq: int
    digest: str


@dataclass
class ReplicaView:
    """One replica name in one shard.

    `seen`: when its latest status arrived, see `Arrivals`; `former`: incarnations that used the
    name before, in the order in which they were replaced; `clash_seen`: when a replaced incarnation
    last wrote a status again.
    """

    status: ReplicaStatus
    seen: int
    former: list[str] = field(default_factory=list)
    clash_seen: int | None = None

    def is_silent(self, now: int) -> bool:
        """Whether it has written no status for more than five seconds."""
        return now - self.seen > SILENT_MS

    def is_duplicate(self, now: int) -> bool:
        """Whether two running processes use this name: their incarnations alternate."""
        return self.clash_seen is not None and now - self.clash_seen < SILENT_MS


class ClusterView:
    """The fold over the status topic; apply each partition's records in order."""

    def __init__(self) -> None:
        self.shards: dict[int, ShardView] = {}
        self.replicas: dict[tuple[str, int], ReplicaView] = {}
        self._failovers: dict[tuple[int, int], Failover] = {}

    def apply(self, record: StatusRecord, seen: int) -> bool:
        """Apply a record; `seen`: when it arrived, see `Arrivals`.

        Returns whether a leader, an epoch, a state, an incarnation or an error has changed, or a
        failover was added; False when only counters have changed.
        """
        if isinstance(record, Failover):
            return self._apply_failover(record)
        if isinstance(record, SnapshotProgress):
            return False
        is_change = self._apply_replica(record, seen)
        return self._apply_shard(record) or is_change

    @property
    def failovers(self) -> list[Failover]:
        """The last 1,000 failovers, each once, in the order of their times."""
        ordered = sorted(self._failovers.values(), key=lambda f: (f.time, f.epoch, f.shard))
        return ordered[-MAX_FAILOVERS:]

    def shift(self, by_ms: int) -> None:
        """Move all arrivals so far; see `Arrivals.settle`."""
        for view in self.replicas.values():
            view.seen += by_ms
            if view.clash_seen is not None:
                view.clash_seen += by_ms

    def forget_absent(self, now: int) -> None:
        """Drop replicas that were silent for FORGET_MS, and failovers before the last 1,000."""
        for key, view in list(self.replicas.items()):
            if now - view.seen > FORGET_MS:
                del self.replicas[key]
        if len(self._failovers) > 2 * MAX_FAILOVERS:
            self._failovers = {_key(failover): failover for failover in self.failovers}

    def _apply_failover(self, failover: Failover) -> bool:
        key = _key(failover)
        if key in self._failovers:
            return False
        self._failovers[key] = failover
        return True

    def _apply_replica(self, status: ReplicaStatus, seen: int) -> bool:
        key = (status.replica, status.shard)
        view = self.replicas.get(key)
        if view is None:
            self.replicas[key] = ReplicaView(status, seen)
            return True
        before = view.status
        if status.incarnation != before.incarnation:
            _replace_incarnation(view, status.incarnation, seen)
        view.status, view.seen = status, seen
        return _watched_fields(before) != _watched_fields(status)

    def _apply_shard(self, status: ReplicaStatus) -> bool:
        """A lower epoch never wins; in one epoch, "no leader" (resigned) is later than a leader."""
        known = self.shards.get(status.shard)
        if known is not None and _rank(status.epoch, status.leader) < _rank(
            known.epoch, known.leader
        ):
            return False
        new = self._merge(known, status)
        self.shards[status.shard] = new
        return known is None or (known.epoch, known.leader, known.state) != (
            new.epoch,
            new.leader,
            new.state,
        )

    def _merge(self, known: ShardView | None, status: ReplicaStatus) -> ShardView:
        is_leader = status.leader == status.replica
        same = known if known is not None and _is_same_leadership(known, status) else None
        ahead = known if known is not None and known.seq > status.seq else None
        return ShardView(
            leader=status.leader,
            address=status.leader_address,
            http=self._http_of(status),
            epoch=status.epoch,
            since=same.since if same and not is_leader else status.since,
            state=same.state if same and not is_leader else _state(status),
            seq=ahead.seq if ahead else status.seq,
            digest=ahead.digest if ahead else status.digest,
        )

    def _http_of(self, status: ReplicaStatus) -> str | None:
        leader = self.replicas.get((status.leader or "", status.shard))
        return leader.status.http if leader else None


def _replace_incarnation(view: ReplicaView, incarnation: str, seen: int) -> None:
    if incarnation in view.former:
        view.clash_seen = seen
        view.former.remove(incarnation)
    view.former = [*view.former, view.status.incarnation][-MAX_FORMER_INCARNATIONS:]


def _key(failover: Failover) -> tuple[int, int]:
    return failover.shard, failover.epoch


def _watched_fields(status: ReplicaStatus) -> tuple[str, str, int, str | None, str | None]:
    return status.state, status.incarnation, status.epoch, status.leader, status.error


def _rank(epoch: int, leader: str | None) -> tuple[int, bool]:
    return epoch, leader is None


def _is_same_leadership(known: ShardView, status: ReplicaStatus) -> bool:
    return (known.epoch, known.leader) == (status.epoch, status.leader)


def _state(status: ReplicaStatus) -> str:
    if status.leader is None:
        return NO_LEADER
    return status.state if status.leader == status.replica else ReplicaState.LEADER
