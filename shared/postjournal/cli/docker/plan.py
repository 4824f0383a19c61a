"""Where the running containers can be reached from this machine; the counterpart of local plans."""

from __future__ import annotations

from dataclasses import dataclass

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import Container
from postjournal.cli.errors import OperationFailed

REPLICA = "replica"
HTTP, TRIPWIRE = 7070, 7071
ENGINE_NETWORK = "engine"
INSIDE = {
    "producer": 8080,
    "coordinator": 8085,
    "grafana": 3000,
    "kafka-ui": 8080,
    "prometheus": 9090,
    "kafka": 29092,
}
"""Service → the port in its container that is published."""

OTHERS = {"kafka": ("kafka-2", "kafka-3")}
"""compose.cluster.yaml adds them."""

SHOWN = {"producer": "gateway"}


@dataclass(frozen=True)
class DockerPlan:
    """As `postjournal.cli.local.plan.Plan`, as far as both are used."""

    containers: tuple[Container, ...]

    @property
    def replica_containers(self) -> dict[str, Container]:
        """The name by which the replica calls itself → its container."""
        return {each.hostname: each for each in self.containers if each.service == REPLICA}

    @property
    def replica_names(self) -> list[str]:
        """All, running or not."""
        return list(self.replica_containers)

    @property
    def replicas(self) -> int:
        """How many there are."""
        return len(self.replica_containers)

    @property
    def shards(self) -> int:
        """As the replicas were told."""
        return int(self._setting("POSTJOURNAL_SHARDS", "1"))

    @property
    def namespace(self) -> str:
        """As the replicas were told."""
        return self._setting("POSTJOURNAL_NAMESPACE", "ledger")

    @property
    def settings(self) -> dict[str, str]:
        """As the replicas were told, but for Kafka's address, which is that on this machine."""
        same = ("NAMESPACE", "SHARDS", "APP", "DEDUPE_WINDOW")
        found = {f"POSTJOURNAL_{name}": self._setting(f"POSTJOURNAL_{name}", "") for name in same}
        return found | {"POSTJOURNAL_BOOTSTRAP": self.address("kafka")}

    @property
    def is_secure(self) -> bool:
        """Kafka wants to know who asks."""
        return bool(self._setting("POSTJOURNAL_KAFKA_USERNAME", ""))

    def address(self, name: str) -> str:
        """host:port of a replica (`NAME`, `NAME/tripwire`) or a service.

        A replica has no port on this machine: its address is the container's, which only Linux
        can reach. Raises `OperationFailed` when the service has none.
        """
        name, _, port = name.partition("/")
        replica = self.replica_containers.get(name)
        if replica is not None:
            network = f"{engine.project()}_{ENGINE_NETWORK}"
            address, _ = replica.networks.get(network, ("", ()))
            return f"{address or name}:{TRIPWIRE if port == 'tripwire' else HTTP}"
        found = self.published(name)
        if found is None:
            raise OperationFailed(f"{name} is not running: see `./postjournal status`")
        return found

    def published(self, service: str) -> str | None:
        """Where the service can be reached on this machine: host:port, of Kafka every broker's."""
        inside = INSIDE.get(service, 0)
        found = [
            f"localhost:{each.ports[inside]}"
            for each in self.containers
            if inside in each.ports and each.service in (service, *OTHERS.get(service, ()))
        ]
        return ",".join(found) or None

    @property
    def addresses(self) -> dict[str, str]:
        """What people open or connect to."""
        found = ((name, self.published(name)) for name in INSIDE)
        return {
            SHOWN.get(name, name): place if name == "kafka" else f"http://{place}"
            for name, place in found
            if place is not None
        }

    def url(self, name: str) -> str:
        """The HTTP address."""
        return f"http://{self.address(name)}"

    def _setting(self, variable: str, default: str) -> str:
        replicas = self.replica_containers.values()
        return next((each.environment.get(variable) for each in replicas), None) or default
