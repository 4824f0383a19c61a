"""What is done to a system, and when: drawn from a seed, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

FIRST_AT_S = 3.0
CALM_END_S = 10.0
"""Nothing is harmed any more for the last seconds of a run."""

BETWEEN_S = (1.5, 8.0)
TOGETHER = 0.2
"""How often a strike comes right upon the one before it."""

LEADER = 0.6
"""How often a strike at a replica is one at whoever leads then."""

BROKER_REST_S = 20.0
"""A Java process is slow to start; a broker that is always down shows nothing."""

KAFKA, REDIS, GATEWAY, COORDINATOR = "kafka", "redis", "producer", "coordinator"
STORE = "snapshot store"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of strike. `weight`: how often, relative to others; `lasts_s`: from, to.

    `target`: a service, or None for a replica; `delay_ms`: from, to, each way.
    """

    name: str
    weight: float
    told: str
    target: str | None = None
    lasts_s: tuple[float, float] = (0.0, 0.0)
    delay_ms: tuple[int, int] = (0, 0)


KINDS = (
    Kind(name="kill", weight=4, told="SIGKILL"),
    Kind(name="pause", weight=4, told="SIGSTOP, later SIGCONT", lasts_s=(0.2, 4)),
    Kind(name="cut", weight=3, told="connections to Kafka reset and refused", lasts_s=(0.2, 5)),
    Kind(name="hang", weight=3, told="connections to Kafka carry nothing", lasts_s=(0.2, 5)),
    Kind(
        name="delay",
        weight=2,
        told="everything to and from Kafka is late",
        lasts_s=(3, 8),
        delay_ms=(5, 120),
    ),
    Kind(name="handover", weight=2, told="the leader is asked to resign"),
    Kind(name="broker-restart", weight=1, told="SIGTERM, started again", target=KAFKA),
    Kind(name="broker-kill", weight=1, told="SIGKILL", target=KAFKA),
    Kind(name="broker-pause", weight=1, told="SIGSTOP", target=KAFKA, lasts_s=(0.5, 4)),
    Kind(name="redis-kill", weight=1, told="SIGKILL; all it held is gone", target=REDIS),
    Kind(name="redis-pause", weight=1, told="SIGSTOP", target=REDIS, lasts_s=(1, 6)),
    Kind(name="gateway-kill", weight=1, told="SIGKILL", target=GATEWAY),
    Kind(name="coordinator-kill", weight=1, told="SIGKILL", target=COORDINATOR),
    Kind(
        name="disk-full",
        weight=1.5,
        told="no running replica can write more than some kB; snapshots are asked for",
        target=STORE,
        lasts_s=(4, 15),
    ),
)


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """One harm. `at_s`: since the load began; `target`: a service, or `leader/SHARD`."""

    at_s: float
    kind: str
    target: str
    lasts_s: float = 0.0
    delay_ms: int = 0

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.at_s + self.lasts_s

    def told(self) -> str:
        """In one line, without the time."""
        late = f" by {self.delay_ms} ms" if self.delay_ms else ""
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.kind} {self.target}{late}{lasts}"


def draw(
    seed: int, seconds: float, replicas: Sequence[str], shards: int, kinds: Sequence[Kind] = KINDS
) -> list[Strike]:
    """The same for the same arguments. First each kind once, as far as the time allows."""
    rng = random.Random(f"chaos {seed}")
    first = rng.sample(list(kinds), len(kinds))
    strikes: list[Strike] = []
    busy_until_s: dict[str, float] = {}
    at_s = FIRST_AT_S
    while at_s < seconds - CALM_END_S:
        weights = [kind.weight for kind in kinds]
        kind = first[0] if first else rng.choices(list(kinds), weights)[0]
        strike = _strike(rng, round(at_s, 2), kind, replicas, shards)
        if busy_until_s.get(strike.target, 0.0) <= at_s < seconds - CALM_END_S - strike.lasts_s:
            strikes.append(strike)
            first = first[1:]
            rest_s = BROKER_REST_S if strike.target == KAFKA else 0.0
            busy_until_s[strike.target] = strike.end_s + rest_s
        else:  # a busy target: another one's turn
            first = first[1:] + first[:1]
        together = rng.random() < TOGETHER
        at_s += rng.uniform(0.0, 0.3) if together else rng.uniform(*BETWEEN_S)
    return strikes


def _strike(
    rng: random.Random, at_s: float, kind: Kind, replicas: Sequence[str], shards: int
) -> Strike:
    leader = kind.name == "handover" or rng.random() < LEADER
    shard, replica = rng.randrange(shards), rng.choice(list(replicas))
    return Strike(
        at_s=at_s,
        kind=kind.name,
        target=kind.target or (f"leader/{shard}" if leader else replica),
        lasts_s=round(rng.uniform(*kind.lasts_s), 2),
        delay_ms=rng.randint(*kind.delay_ms),
    )
