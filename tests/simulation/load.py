"""What clients do: commands, duplicates, invalid records (poison) and queries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from postjournal.core import messages as m
from postjournal.core.sharding import shard_of
from tests.simulation.broker import SOURCES
from tests.simulation.event_loop import MS
from tests.simulation.invariants import Query

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.host import Host

QUERY_TIMEOUT_MS = 300
MIN_SEQ_AHEAD = (0, 0, 1, 20)
"""How far `min_seq` is ahead of the last stable seq; a replica waits for it and may refuse."""

NESTING_LEVELS = 1_100
"""More than Python's stack allows."""

POISON: tuple[Any, ...] = (
    None,
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"[]",
    b"7",
    {},
    {"id": "p0"},
    {"id": 7, "type": "open", "account": "a0"},
    {"id": "", "type": "open", "account": "a0"},
    {"id": "x" * 200, "type": "open", "account": "a0"},
    {"type": "open", "account": "a0"},
    {"id": "p1", "type": "close", "account": "a0"},
    {"id": "p2", "type": 3, "account": "a0"},
    {"id": "p3", "type": "y" * 80, "account": "a0"},
    {"id": "p4", "type": "deposit", "account": "a0"},
    {"id": "p5", "type": "deposit", "account": "a0", "amount": "5"},
    {"id": "p6", "type": "deposit", "account": "a0", "amount": 0},
    b'{"id":"p12","type":"open","account":"a0","z":'
    + b"[" * NESTING_LEVELS
    + b"]" * NESTING_LEVELS
    + b"}",
    {"id": "p7", "type": "deposit", "account": "a0", "amount": -3},
    {"id": "p8", "type": "deposit", "account": "a0", "amount": 2**53},
    {"id": "p9", "type": "deposit", "account": "a0", "amount": True},
    {"id": "p10", "type": "open", "account": ""},
    {"id": "p11", "type": "transfer", "from": "a0", "amount": 1},
    {"id": "c1", "type": "deposit", "account": "a0", "amount": None},
)
"""Records that are not commands; some have an id all the same, one the id of a command."""


KINDS = (
    *("open", "deposit", "deposit", "deposit", "withdraw", "withdraw"),
    *("transfer", "transfer", "transfer", "transfer", "sweep", "boom"),
)
"""Types of commands; repeated in proportion to their frequency."""


class Load:
    """Commands and queries during the faults, and a few afterwards."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster, self._loop, self._random = cluster, cluster.loop, cluster.loop.random
        self._sent: list[tuple[int, dict[str, Any]]] = []  # (shard, command)
        self._keys = [
            _key_of(shard, cluster.profile.shards) for shard in range(cluster.profile.shards)
        ]
        self._accounts = [f"a{number}" for number in range(cluster.profile.accounts)]

    def start(self) -> None:
        """Spread commands and queries over the phase with faults."""
        profile = self._cluster.profile
        for number in range(profile.commands):
            self._loop.at(self._random_time(profile.faults_us), self._command, number)
        for _ in range(profile.queries):
            self._loop.at(self._random_time(profile.faults_us), self._query)

    def finish(self) -> None:
        """A few more when the faults are over: they must succeed."""
        for number in range(4):
            self._loop.after(self._loop.uniform(0, 200 * MS), self._command, 10_000 + number)
            self._loop.after(self._loop.uniform(0, 200 * MS), self._query)

    def _random_time(self, end_us: int) -> int:
        """Half of all times fall into four short bursts."""
        random = self._random.random
        if random() < 0.5:
            return int(random() * end_us)
        return int((self._random.randrange(4) + random() * 0.05) / 4 * end_us)

    # --- commands ---------------------------------------------------------------------------

    def _command(self, number: int) -> None:
        profile, fault_probability = self._cluster.profile, self._cluster.fault_probability
        shard = self._random.randrange(profile.shards)
        if self._loop.chance(fault_probability("poison")):
            self._poison(shard)
            return
        command = self._new_command(number)
        self._sent.append((shard, command))
        self._send(shard, self._keys[shard], command)
        if self._loop.chance(fault_probability("duplicate")):
            self._loop.after(self._loop.uniform(0, 1_000 * MS), self._repeat)

    def _new_command(self, number: int) -> dict[str, Any]:
        pick, accounts = self._random.choice, self._accounts
        command = {"id": f"c{number}"}
        kind = pick(KINDS)
        if kind == "boom":
            return command | {"type": kind}
        if kind == "sweep":
            return command | {"type": kind, "to": pick(accounts)}
        if kind == "transfer":
            sides = {"from": pick(accounts), "to": pick(accounts)}
            return command | {"type": kind, "amount": self._amount()} | sides
        if kind == "open":
            return command | {"type": kind, "account": pick(accounts)}
        return command | {"type": kind, "account": pick(accounts), "amount": self._amount()}

    def _amount(self) -> int:
        """Small amounts succeed, large ones are rejected; the largest reaches the limit."""
        return self._random.choice((1, 5, 10, 40, 100, 2**53 - 1))

    def _repeat(self) -> None:
        """Send an id again, sometimes with another payload."""
        shard, command = self._random.choice(self._sent)
        self._cluster.coverage.hit("duplicates")
        if self._random.random() < 0.3:
            self._cluster.coverage.hit("duplicates with another payload")
            command = self._new_command(0) | {"id": command["id"]}
        self._send(shard, self._keys[shard], command)

    def _poison(self, shard: int) -> None:
        if self._cluster.profile.shards > 1 and self._random.random() < 0.3:
            self._cluster.coverage.hit("commands of another shard")
            other = (shard + 1) % self._cluster.profile.shards
            self._send(shard, self._keys[other], self._new_command(self._loop.now_us))
            return
        self._cluster.coverage.hit("poison")
        self._send(shard, self._keys[shard], self._random.choice(POISON))

    def _send(self, shard: int, key: bytes | None, value: Any) -> None:
        """Land a record when the broker is available, as the gateway's producer does."""
        if self._cluster.broker_unavailable:
            self._loop.after(10 * MS, self._send, shard, key, value)
            return
        topic = self._random.choice(SOURCES)
        partition = self._cluster.topics[shard].sources[topic]
        raw = json.dumps(value).encode() if isinstance(value, dict) else value
        offset = partition.land((len(partition.records), key, raw))
        self._loop.trace(topic, "%d/%d %s", shard, offset, raw)

    # --- queries ----------------------------------------------------------------------------

    def _query(self) -> None:
        alive = [host for host in self._cluster.hosts if host.alive and not host.stopping]
        if alive:
            host = self._random.choice(alive)
            shard = self._random.randrange(self._cluster.profile.shards)
            leading = [host for host in alive if host.processes[shard].leads]
            if leading and self._random.random() < 0.7:  # perhaps deposed already
                host = self._random.choice(leading)
            self.query(host, shard, linearizable=self._random.random() < 0.7)

    def query(self, host: Host, shard: int, *, linearizable: bool) -> int:
        """Query a replica for a balance; return the query's token."""
        audit = self._cluster.audit
        account = self._random.choice(self._accounts)
        floor = audit.shards[shard].fold.next_seq
        # Up to the last stable seq or beyond. A linearizable answer must be current by its barrier
        # alone.
        min_seq = -1 if linearizable else floor - 1 + MIN_SEQ_AHEAD[len(audit.queries) % 4]
        query = Query(shard, account, linearizable, floor, host.name, host.life_of(shard), min_seq)
        token = audit.on_query(query)
        self._loop.trace(host.name, "receives query %d: %s, %s", token, account, linearizable)
        request = m.QueryRequested(
            token, {"account": account}, linearizable, min_seq, QUERY_TIMEOUT_MS
        )
        host.processes[shard].inbox.put(request)
        return token


def _key_of(shard: int, shards: int) -> bytes:
    """A key that belongs to the shard."""
    return next(
        key
        for key in (f"k{number}".encode() for number in range(1_000))
        if shard_of(key, shards) == shard
    )
