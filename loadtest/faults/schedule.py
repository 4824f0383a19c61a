"""Which faults are injected, and when: drawn from a seed before anything runs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from loadtest.faults.kinds import AT_LEADER, KAFKA, KINDS, FaultKind

FIRST_AT_S = 3.0
CALM_END_S = 10.0
"""No fault is active in the last seconds of a run."""

BETWEEN_S = (1.5, 8.0)
TOGETHER = 0.2
"""The share of faults that come right after the one before."""

LEADER = 0.6
"""The share of faults in a replica that are aimed at the leader of the moment."""

BROKER_REST_S = 20.0
"""A Java process starts slowly; while the broker is down other faults show nothing."""


class ScheduledFault(msgspec.Struct, frozen=True, kw_only=True):
    """`at_s`: since the load began; `target`: a service, a replica, or `leader/SHARD`."""

    at_s: float
    kind: str
    target: str
    lasts_s: float = 0.0
    delay_ms: int = 0

    @property
    def end_s(self) -> float:
        return self.at_s + self.lasts_s

    @property
    def description(self) -> str:
        """One line, without the time."""
        late = f" by {self.delay_ms} ms" if self.delay_ms else ""
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.kind} {self.target}{late}{lasts}"


def draw(
    seed: int,
    seconds: float,
    replicas: Sequence[str],
    shards: int,
    kinds: Sequence[FaultKind] = KINDS,
) -> list[ScheduledFault]:
    """The schedule of a seed: first each kind once, as far as the time allows."""
    rng = random.Random(f"chaos {seed}")
    first = rng.sample(list(kinds), len(kinds))
    schedule: list[ScheduledFault] = []
    busy_until_s: dict[str, float] = {}
    at_s = FIRST_AT_S
    while at_s < seconds - CALM_END_S:
        weights = [kind.weight for kind in kinds]
        kind = first[0] if first else rng.choices(list(kinds), weights)[0]
        fault = _draw_one(rng, round(at_s, 2), kind, replicas, shards)
        if busy_until_s.get(fault.target, 0.0) <= at_s < seconds - CALM_END_S - fault.lasts_s:
            schedule.append(fault)
            first = first[1:]
            rest_s = BROKER_REST_S if fault.target == KAFKA else 0.0
            busy_until_s[fault.target] = fault.end_s + rest_s
        else:  # the target is busy: try another kind first
            first = first[1:] + first[:1]
        together = rng.random() < TOGETHER
        at_s += rng.uniform(0.0, 0.3) if together else rng.uniform(*BETWEEN_S)
    return schedule


def _draw_one(
    rng: random.Random, at_s: float, kind: FaultKind, replicas: Sequence[str], shards: int
) -> ScheduledFault:
    at_leader = kind.fault in AT_LEADER or rng.random() < LEADER
    shard, replica = rng.randrange(shards), rng.choice(list(replicas))
    return ScheduledFault(
        at_s=at_s,
        kind=kind.name,
        target=kind.target or (f"leader/{shard}" if at_leader else replica),
        lasts_s=round(rng.uniform(*kind.lasts_s), 2),
        delay_ms=rng.randint(*kind.delay_ms),
    )
