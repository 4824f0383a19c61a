"""A quiet cluster in which a scenario makes exactly the fault that it is about."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.simulation.event_loop import MS
from tests.simulation.host import Host, ScheduledFault
from tests.simulation.invariants import Query, ShardAudit
from tests.simulation.profile import Profile
from tests.simulation.runner import Simulation
from tests.simulation.shard_log import SimShardLog
from tests.simulation.shard_process import ShardProcess
from tests.simulation.sink_producer import SinkProducer


class ScenarioCluster:
    """Replicas of one shard, a leader in office, one account with 100 in it.

    All invariants are checked all the time, as in any other run.
    """

    def __init__(self, replicas: int = 3, **profile_fields: Any) -> None:
        """`profile_fields`: fields of `Profile` that shall not be the defaults."""
        profile = Profile(replicas=replicas, tick_us=10 * MS, **profile_fields)
        self.simulation = Simulation(1, traced=True, profile=profile)
        self.simulated = self.simulation.cluster
        self.hosts = self.simulated.hosts
        self._sent = 0
        self.simulated.start()
        self.until(lambda: self.simulated.leader(0) is not None, 1_000, "a first leader")
        self.deposit_account = "a0"
        self.send({"type": "open", "account": "a0"})
        self.send({"type": "deposit", "account": "a0", "amount": 100})
        self.settle()

    # --- who ----------------------------------------------------------------------------------

    @property
    def leader(self) -> Host:
        """Who leads."""
        leader = self.simulated.leader(0)
        assert leader is not None
        return leader

    @property
    def standbys(self) -> list[Host]:
        """The others that live."""
        return [host for host in self.hosts if host.alive and host is not self.simulated.leader(0)]

    def process(self, host: Host) -> ShardProcess:
        """The replica's runtime."""
        return host.processes[0]

    def log(self, host: Host) -> SimShardLog:
        """Its log: producers and readers can be held."""
        return host.processes[0].log

    def producer(self, host: Host, sink: str = "results") -> SinkProducer:
        """Its producer of a sink."""
        return self.log(host).sink_producers[sink]

    @property
    def audit(self) -> ShardAudit:
        """What the journal says."""
        return self.simulated.audit.shards[0]

    @property
    def epoch(self) -> int:
        """By the journal."""
        return self.audit.fold.epoch

    def count(self, name: str) -> int:
        """How often something happened."""
        return self.simulated.coverage[name]

    @property
    def published(self) -> int:
        """Results that a subscriber has seen."""
        return self.simulated.topics[0].sinks["results"].next_seq

    def results(self) -> list[dict[str, Any]]:
        """All results that follow from the journal."""
        return self.audit.reference.outputs["results"]

    # --- what happens ---------------------------------------------------------------------------

    def run(self, duration_ms: float) -> None:
        """Let time pass."""
        self.simulated.run_for(int(duration_ms * MS))

    def until(self, done: Callable[[], bool], bound_ms: int, what: str) -> None:
        """Let time pass until `done()`; it must be within the bound."""
        self.simulated.run_until(done, bound_ms * MS, what)

    def settle(self, bound_ms: int = 3_000) -> None:
        """Let time pass until all is well, and look thoroughly whether it is."""
        self.run(20)
        self.until(self.simulated.is_healthy, bound_ms, "well again")
        for host in self.hosts:
            for process in host.processes:
                self.simulated.audit.thorough(process)

    def restart_exited(self) -> None:
        """Start those again that are dead."""
        for host in self.hosts:
            if not host.alive:
                host.start()

    def send(self, command: dict[str, Any] | None = None) -> str:
        """A command from a client, by default a deposit of 1; returns its id."""
        command = command or {"type": "deposit", "account": "a0", "amount": 1}
        self._sent += 1
        command = {"id": f"s{self._sent}"} | command
        partition = self.simulated.topics[0].sources["ledger.commands"]
        raw = json.dumps(command).encode()
        partition.land((len(partition.records), b"main", raw))
        return str(command["id"])

    def query(self, host: Host, *, linearizable: bool = True) -> Query:
        """A question to a replica; the answer appears in the query."""
        token = self.simulation.load.ask(host, 0, linearizable=linearizable)
        return self.simulated.audit.queries[token]

    def schedule_fault(
        self, host: Host, effect: str, *, pause_ms: int | None, after: bool = False
    ) -> None:
        """Pause or kill the process at its next effect of that kind."""
        host.scheduled_fault = ScheduledFault(
            effect, 0, after, None if pause_ms is None else pause_ms * MS
        )
