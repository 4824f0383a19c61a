"""A cluster without random faults, in which a scenario injects exactly the fault it tests."""

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
    """Replicas of one shard with a leader and one account that holds 100.

    All invariants are checked throughout, as in any other run.
    """

    def __init__(self, replicas: int = 3, **profile_fields: Any) -> None:
        """`profile_fields`: fields of `Profile` that differ from the defaults."""
        profile = Profile(replicas=replicas, late_us=5 * MS, **profile_fields)
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

    # --- the replicas ---------------------------------------------------------------------------

    @property
    def leader(self) -> Host:
        leader = self.simulated.leader(0)
        assert leader is not None
        return leader

    @property
    def standbys(self) -> list[Host]:
        """All running hosts but the leader."""
        return [host for host in self.hosts if host.alive and host is not self.simulated.leader(0)]

    def process(self, host: Host) -> ShardProcess:
        return host.processes[0]

    def log(self, host: Host) -> SimShardLog:
        return host.processes[0].log

    def producer(self, host: Host, sink: str = "results") -> SinkProducer:
        return self.log(host).sink_producers[sink]

    @property
    def audit(self) -> ShardAudit:
        return self.simulated.audit.shards[0]

    @property
    def epoch(self) -> int:
        """The epoch according to the journal."""
        return self.audit.fold.epoch

    def count(self, name: str) -> int:
        """How often the coverage counter `name` was hit."""
        return self.simulated.coverage[name]

    @property
    def published(self) -> int:
        """The number of results that a subscriber has seen."""
        return self.simulated.topics[0].sinks["results"].next_seq

    def results(self) -> list[dict[str, Any]]:
        """All results that follow from the journal."""
        return self.audit.reference.outputs["results"]

    # --- actions --------------------------------------------------------------------------------

    def run(self, duration_ms: float) -> None:
        self.simulated.run_for(int(duration_ms * MS))

    def until(self, done: Callable[[], bool], bound_ms: int, what: str) -> None:
        """Run until `done()`, at most `bound_ms`."""
        self.simulated.run_until(done, bound_ms * MS, what)

    def settle(self, bound_ms: int = 3_000) -> None:
        """Run until the cluster is healthy, then check the slow invariants too."""
        self.run(20)
        self.until(self.simulated.is_healthy, bound_ms, "healthy again")
        for host in self.hosts:
            for process in host.processes:
                self.simulated.audit.thorough(process)

    def restart_exited(self) -> None:
        for host in self.hosts:
            if not host.alive:
                host.start()

    def send(self, command: dict[str, Any] | None = None) -> str:
        """Land a command in the source, by default a deposit of 1; return its id."""
        command = command or {"type": "deposit", "account": "a0", "amount": 1}
        self._sent += 1
        command = {"id": f"s{self._sent}"} | command
        partition = self.simulated.topics[0].sources["ledger.commands"]
        raw = json.dumps(command).encode()
        partition.land((len(partition.records), b"main", raw))
        return str(command["id"])

    def query(self, host: Host, *, linearizable: bool = True) -> Query:
        """Send a query to a replica; the answer is set in the returned query."""
        token = self.simulation.load.query(host, 0, linearizable=linearizable)
        return self.simulated.audit.queries[token]

    def schedule_fault(
        self, host: Host, effect: str, *, pause_ms: int | None, after: bool = False
    ) -> None:
        """Pause or kill the host at its next effect of that kind."""
        host.scheduled_fault = ScheduledFault(
            effect, 0, after, None if pause_ms is None else pause_ms * MS
        )
