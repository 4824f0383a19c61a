"""A quiet world in which a scenario makes exactly the fault that it is about."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.simulation.faults import Profile
from tests.simulation.host import Host, Strike
from tests.simulation.invariants import Query, ShardAudit
from tests.simulation.kernel import MS
from tests.simulation.runner import Simulation
from tests.simulation.seat import Seat
from tests.simulation.shardlog import SimShardLog
from tests.simulation.sink_pipe import SinkPipe


class Stage:
    """Replicas of one shard, a leader in office, one account with 100 in it.

    All invariants are checked all the time, as in any other run.
    """

    def __init__(self, replicas: int = 3, **dangers: Any) -> None:
        """`dangers`: fields of `Profile` that shall not be the defaults."""
        profile = Profile(replicas=replicas, tick_us=10 * MS, **dangers)
        self.simulation = Simulation(1, traced=True, profile=profile)
        self.world = self.simulation.world
        self.hosts = self.world.hosts
        self._sent = 0
        self.world.start()
        self.until(lambda: self.world.leader(0) is not None, 1_000, "a first leader")
        self.deposit_account = "a0"
        self.send({"type": "open", "account": "a0"})
        self.send({"type": "deposit", "account": "a0", "amount": 100})
        self.settle()

    # --- who ----------------------------------------------------------------------------------

    @property
    def leader(self) -> Host:
        """Who leads."""
        leader = self.world.leader(0)
        assert leader is not None
        return leader

    @property
    def standbys(self) -> list[Host]:
        """The others that live."""
        return [host for host in self.hosts if host.alive and host is not self.world.leader(0)]

    def seat(self, host: Host) -> Seat:
        """The replica's runtime."""
        return host.seats[0]

    def log(self, host: Host) -> SimShardLog:
        """Its log: pipes and readers can be held."""
        return host.seats[0].log

    def pipe(self, host: Host, sink: str = "results") -> SinkPipe:
        """Its producer of a sink."""
        return self.log(host).sink_pipes[sink]

    @property
    def audit(self) -> ShardAudit:
        """What the journal says."""
        return self.world.audit.shards[0]

    @property
    def epoch(self) -> int:
        """By the journal."""
        return self.audit.fold.epoch

    def count(self, name: str) -> int:
        """How often something happened."""
        return self.world.coverage[name]

    @property
    def published(self) -> int:
        """Results that a subscriber has seen."""
        return self.world.topics[0].sinks["results"].next_seq

    def results(self) -> list[dict[str, Any]]:
        """All results that follow from the journal."""
        return self.audit.reference.outputs["results"]

    # --- what happens ---------------------------------------------------------------------------

    def run(self, duration_ms: float) -> None:
        """Let time pass."""
        self.world.run_for(int(duration_ms * MS))

    def until(self, done: Callable[[], bool], bound_ms: int, what: str) -> None:
        """Let time pass until `done()`; it must be within the bound."""
        self.world.run_until(done, bound_ms * MS, what)

    def settle(self, bound_ms: int = 3_000) -> None:
        """Let time pass until all is well, and look thoroughly whether it is."""
        self.run(20)
        self.until(self.world.is_well, bound_ms, "well again")
        for host in self.hosts:
            for seat in host.seats:
                self.world.audit.thorough(seat)

    def restart_dead(self) -> None:
        """Start those again that are dead."""
        for host in self.hosts:
            if not host.alive:
                host.start()

    def send(self, command: dict[str, Any] | None = None) -> str:
        """A command from a client, by default a deposit of 1; returns its id."""
        command = command or {"type": "deposit", "account": "a0", "amount": 1}
        self._sent += 1
        command = {"id": f"s{self._sent}"} | command
        partition = self.world.topics[0].sources["ledger.commands"]
        raw = json.dumps(command).encode()
        partition.land((len(partition.records), b"main", raw))
        return str(command["id"])

    def ask(self, host: Host, *, linearizable: bool = True) -> Query:
        """A question to a replica; the answer appears in the query."""
        token = self.simulation.load.ask(host, 0, linearizable=linearizable)
        return self.world.audit.queries[token]

    def strike(self, host: Host, effect: str, *, pause_ms: int | None, after: bool = False) -> None:
        """Pause or kill the process at its next effect of that kind."""
        host.strike = Strike(effect, 0, after, None if pause_ms is None else pause_ms * MS)
