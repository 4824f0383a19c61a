"""The addresses of the running containers; the counterpart of the local mode's `Plan`."""

from __future__ import annotations

from dataclasses import dataclass

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import Container
from postjournal.cli.errors import OperationFailed

REPLICA = "replica"
HTTP, TRIPWIRE = 7070, 7071
ENGINE_NETWORK = "engine"
CONTAINER_PORTS = {
    "producer": 8080,
    "coordinator": 8085,
    "grafana": 3000,
    "kafka-ui": 8080,
    "prometheus": 9090,
    "kafka": 29092,
}
"""Service → its published container port."""

FURTHER_BROKERS = {"kafka": ("kafka-2", "kafka-3")}
"""Service → further services of the same kind, which compose.cluster.yaml adds."""

DISPLAY_NAMES = {"producer": "gateway"}


@dataclass(frozen=True)
class DockerPlan:
    """What `postjournal.cli.local.plan.Plan` has and callers of both use."""

    containers: tuple[Container, ...]

    @property
    def replica_containers(self) -> dict[str, Container]:
        """The replica's name → its container."""
        return {
            container.hostname: container
            for container in self.containers
            if container.service == REPLICA
        }

    @property
    def replica_names(self) -> list[str]:
        """Names of all replicas, running or not."""
        return list(self.replica_containers)

    @property
    def replicas(self) -> int:
        return len(self.replica_containers)

    @property
    def shards(self) -> int:
        return int(self._setting("POSTJOURNAL_SHARDS", "1"))

    @property
    def namespace(self) -> str:
        return self._setting("POSTJOURNAL_NAMESPACE", "ledger")

    @property
    def settings(self) -> dict[str, str]:
        """The replicas' settings, with Kafka's address on this machine."""
        names = ("NAMESPACE", "SHARDS", "REPLICATION", "FSYNC", "APP", "DEDUPE_WINDOW")
        found = {f"POSTJOURNAL_{name}": self._setting(f"POSTJOURNAL_{name}", "") for name in names}
        return found | {"POSTJOURNAL_BOOTSTRAP": self.address("kafka")}

    @property
    def is_secure(self) -> bool:
        """Whether Kafka requires credentials."""
        return bool(self._setting("POSTJOURNAL_KAFKA_USERNAME", ""))

    def address(self, name: str) -> str:
        """Return host:port of a replica (`NAME`, `NAME/tripwire`) or a service.

        A replica publishes no port: its address is the container's, which only Linux can reach.
        Raises `OperationFailed` when the service has no address.
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
        """Return the service's host:port on this machine (of Kafka: of all brokers), or None."""
        port = CONTAINER_PORTS.get(service, 0)
        services = (service, *FURTHER_BROKERS.get(service, ()))
        found = [
            f"localhost:{container.ports[port]}"
            for container in self.containers
            if port in container.ports and container.service in services
        ]
        return ",".join(found) or None

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses that `up` prints, by name."""
        found = ((name, self.published(name)) for name in CONTAINER_PORTS)
        return {
            DISPLAY_NAMES.get(name, name): address if name == "kafka" else f"http://{address}"
            for name, address in found
            if address is not None
        }

    def url(self, name: str) -> str:
        return f"http://{self.address(name)}"

    def _setting(self, variable: str, default: str) -> str:
        environments = (found.environment for found in self.replica_containers.values())
        return next((found.get(variable) for found in environments), None) or default
