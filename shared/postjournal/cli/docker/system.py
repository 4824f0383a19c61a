"""A Postjournal system in containers: its status, and faults. See `LocalSystem`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

import msgspec

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import Container, containers, read_file
from postjournal.cli.docker.plan import CONTAINER_PORTS, REPLICA, DockerPlan
from postjournal.cli.errors import NotFound, OperationFailed
from postjournal.cli.local.status import (
    NOT_RUNNING,
    ReplicaRow,
    ServiceRow,
    StateResponse,
    SystemStatus,
    fetch_states,
    replica_row,
    running_engine,
)

OPERATOR = "operator"
SECRETS = "secrets"
OPERATOR_FOLDER = Path("/secrets") / OPERATOR
STATE_REQUEST = (
    "exec 3<>/dev/tcp/127.0.0.1/7070; printf 'GET /state HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
)
"""A bash script for a replica's container."""


class DockerSystem:
    """The project's containers; each call reads their current state."""

    @property
    def plan(self) -> DockerPlan:
        """The running containers and their addresses; raises `OperationFailed` without any."""
        plan = DockerPlan(tuple(_long_running()))
        if not any(container.state == "running" for container in plan.containers):
            raise NotFound(NOT_RUNNING)
        return plan

    def is_running(self) -> bool:
        return any(container.state != "exited" for container in _long_running())

    @cached_property
    def credentials(self) -> dict[str, str]:
        """The operator's variables for Kafka and the coordinator; {} for a system without any.

        Raises `OperationFailed` when the container that holds them does not exist.
        """
        if not self.plan.is_secure:
            return {}
        holder = next((found.name for found in containers() if found.service == SECRETS), None)
        if holder is None:
            raise OperationFailed(
                f"the container `{SECRETS}`, which holds the operator's credentials, does not "
                "exist: recreate it with `./postjournal up` and the options of the first start"
            )
        return {
            "POSTJOURNAL_KAFKA_USERNAME": OPERATOR,
            "POSTJOURNAL_KAFKA_PASSWORD": read_file(
                holder, str(OPERATOR_FOLDER / "kafka-password")
            ),
            "POSTJOURNAL_API_TOKEN": read_file(holder, str(OPERATOR_FOLDER / "api-token")),
        }

    def status(self) -> SystemStatus:
        """Fetch the state of every replica and service."""
        plan = self.plan
        states = _fetch_states(plan)
        rows = [
            row
            for name, container in plan.replica_containers.items()
            for row in _replica_rows(plan, container, states[name])
        ]
        services = {
            container.service: _service_row(plan, container)
            for container in plan.containers
            if container.service != REPLICA
        }
        return SystemStatus(mode="docker", replicas=rows, services=services)

    def settings(self) -> dict[str, str]:
        """Return the environment variables by which a client on this machine reaches this system.

        Raises as `credentials`, which are included.
        """
        return self.plan.settings | self.credentials

    def state_fetcher(self) -> Callable[[], dict[str, StateResponse | None]]:
        """Return a function that fetches the state of the replicas that exist now."""
        return partial(_fetch_states, self.plan)

    def kill(self, name: str) -> str:
        """Send SIGKILL; return the container's name. Docker does not restart it."""
        return self._do("kill", name)

    def pause(self, name: str) -> str:
        """Freeze the container; return its name."""
        return self._do("pause", name)

    def resume(self, name: str) -> str:
        """Undo `pause`; return the container's name."""
        return self._do("unpause", name)

    def signal_engine(self, row: ReplicaRow, number: signal.Signals) -> str:
        """Send a signal to the engine of one shard; return the container's name."""
        container, pid = self._container(row.name), running_engine(row)
        engine.run("exec", container.name, "bash", "-c", f"kill -{int(number)} {pid}")
        return container.name

    def stop_replica(self, name: str) -> None:
        """Send SIGTERM; the container stays stopped."""
        self._do("stop", name)

    def start_replica(self, name: str) -> None:
        """Start a container that was killed or stopped; does not wait until it is ready."""
        self._do("start", name)

    def disconnect(self, name: str) -> Container:
        """Disconnect a container from all its networks; its processes keep running."""
        container = self._container(name)
        for network in container.networks:
            engine.run("network", "disconnect", "--force", network, container.name)
        return container

    def reconnect(self, container: Container) -> None:
        """Undo `disconnect`, with the aliases that the container had in each network."""
        for network, (_, names) in container.networks.items():
            aliases = [argument for name in names for argument in ("--alias", name)]
            engine.run("network", "connect", *aliases, network, container.name)

    def _do(self, verb: str, name: str) -> str:
        container = self._container(name)
        engine.run(verb, container.name)
        return container.name

    def _container(self, name: str) -> Container:
        found = self.plan.containers
        for container in found:
            if name in (container.hostname, container.short_name):
                return container
        for container in found:
            if name == container.service:
                return container
        names = ", ".join(sorted(container.short_name for container in found))
        raise NotFound(f"there is no container {name}; containers: {names}")


def _long_running() -> list[Container]:
    """All containers but the one-shot ones, which prepare the system and exit."""
    return [
        container
        for container in containers()
        if container.service != SECRETS and not container.service.endswith("-setup")
    ]


def _fetch_states(plan: DockerPlan) -> dict[str, StateResponse | None]:
    if sys.platform == "linux":
        return fetch_states(plan)
    # Elsewhere the containers run in a virtual machine: their addresses are unreachable.
    with ThreadPoolExecutor(max(1, plan.replicas)) as pool:
        states = pool.map(_fetch_state_inside, plan.replica_containers.values())
        return dict(zip(plan.replica_names, states, strict=True))


def _fetch_state_inside(container: Container) -> StateResponse | None:
    try:
        response = engine.run("exec", container.name, "bash", "-c", STATE_REQUEST, timeout_s=2.0)
        return msgspec.json.decode(response.partition(b"\r\n\r\n")[2], type=StateResponse)
    except (OperationFailed, msgspec.DecodeError):
        return None


def _replica_rows(
    plan: DockerPlan, container: Container, state: StateResponse | None
) -> list[ReplicaRow]:
    is_running = container.state == "running"
    reports = {report.shard: report for report in state.shards} if state and is_running else {}
    return [
        replica_row(
            plan,
            container.hostname,
            shard,
            reports.get(shard),
            pid=container.pid or None,
            container=container.name,
            state=_state(container, running="starting"),
        )
        for shard in range(plan.shards)
    ]


def _service_row(plan: DockerPlan, container: Container) -> ServiceRow:
    published = plan.published(container.service) if container.service in CONTAINER_PORTS else None
    is_http = published is not None and container.service != "kafka"
    return ServiceRow(
        address=f"http://{published}" if is_http else published,
        pid=container.pid or None,
        state=_state(container, running="running"),
    )


def _state(container: Container, *, running: str) -> str:
    if container.state == "running":
        return running
    return {"paused": "paused", "restarting": "starting"}.get(container.state, "down")
