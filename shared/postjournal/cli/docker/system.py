"""A whole Postjournal system in containers: watched and harmed. See `LocalSystem`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

import msgspec

from postjournal.cli.docker import engine
from postjournal.cli.docker.containers import Container, containers, read_file
from postjournal.cli.docker.plan import INSIDE, REPLICA, DockerPlan
from postjournal.cli.errors import NotFound, OperationFailed
from postjournal.cli.local.status import (
    ReplicaRow,
    ServiceRow,
    StateAnswer,
    SystemStatus,
    ask_replicas,
)
from postjournal.cluster.status import ReplicaStatus

OPERATOR = "operator"
SECRETS = "secrets"
OPERATOR_FOLDER = Path("/secrets") / OPERATOR
STATE_REQUEST = (
    "exec 3<>/dev/tcp/127.0.0.1/7070; printf 'GET /state HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
)
"""For bash in a replica's container."""


class DockerSystem:
    """The project's containers, as they are when they are asked for."""

    @property
    def plan(self) -> DockerPlan:
        """Raises `OperationFailed` when nothing is running."""
        plan = DockerPlan(tuple(each for each in containers() if not _is_one_shot(each)))
        if not any(each.state == "running" for each in plan.containers):
            raise NotFound("the system is not running: start it with `./postjournal up`")
        return plan

    def is_running(self) -> bool:
        """Whether any container runs."""
        return any(each.state != "exited" for each in containers() if not _is_one_shot(each))

    @cached_property
    def credentials(self) -> dict[str, str]:
        """The operator's variables for Kafka and the coordinator; {} for a system without any.

        Raises `OperationFailed` when the container that holds the secrets is missing.
        """
        if not self.plan.is_secure:
            return {}
        holder = next((each.name for each in containers() if each.service == SECRETS), None)
        if holder is None:
            raise OperationFailed(
                f"the container `{SECRETS}`, which has exited and holds the operator's secrets, is "
                "missing: `./postjournal up`, with the options of the first time, creates it again"
            )
        return {
            "POSTJOURNAL_KAFKA_USERNAME": OPERATOR,
            "POSTJOURNAL_KAFKA_PASSWORD": read_file(
                holder, str(OPERATOR_FOLDER / "kafka-password")
            ),
            "POSTJOURNAL_API_TOKEN": read_file(holder, str(OPERATOR_FOLDER / "api-token")),
        }

    def status(self) -> SystemStatus:
        """What every replica and service is doing."""
        plan = self.plan
        answers = _answers(plan)
        rows = [
            row
            for name, container in plan.replica_containers.items()
            for row in _replica_rows(plan, container, answers[name])
        ]
        services = {
            each.service: _service_row(plan, each)
            for each in plan.containers
            if each.service != REPLICA
        }
        return SystemStatus(mode="docker", replicas=rows, services=services)

    def settings(self) -> dict[str, str]:
        """The environment variables by which a client on this machine reaches this system.

        Raises as `credentials`, which are included.
        """
        return self.plan.settings | self.credentials

    def accounts(self) -> Callable[[], dict[str, StateAnswer | None]]:
        """Asks the replicas that are there now, as often as it is called."""
        return partial(_answers, self.plan)

    def kill(self, name: str) -> str:
        """SIGKILL; the container's name. Docker does not start it again: `revive` does."""
        return self._do("kill", name)

    def revive(self, name: str) -> None:
        """Start a container that was killed or stopped; does not wait until it is ready."""
        self._do("start", name)

    def pause(self, name: str) -> str:
        """Freeze; the container's name."""
        return self._do("pause", name)

    def resume(self, name: str) -> str:
        """Let it run again; the container's name."""
        return self._do("unpause", name)

    def stop_replica(self, name: str) -> None:
        """SIGTERM; it stays down."""
        self._do("stop", name)

    def start_replica(self, name: str) -> None:
        """See `revive`."""
        self.revive(name)

    def disconnect(self, name: str) -> Container:
        """Cut a container off all its networks; it goes on running."""
        container = self._container(name)
        for network in container.networks:
            engine.run("network", "disconnect", "--force", network, container.name)
        return container

    def reconnect(self, container: Container) -> None:
        """Undo `disconnect`: with the names that it had there."""
        for network, (_, names) in container.networks.items():
            aliases = [word for name in names for word in ("--alias", name)]
            engine.run("network", "connect", *aliases, network, container.name)

    def _do(self, verb: str, name: str) -> str:
        container = self._container(name)
        engine.run(verb, container.name)
        return container.name

    def _container(self, name: str) -> Container:
        known = {each.hostname: each for each in self.plan.containers}
        known |= {each.short_name: each for each in known.values()}
        if name in known:
            return known[name]
        by_service = [each for each in known.values() if each.service == name]
        if not by_service:
            names = ", ".join(sorted({each.short_name for each in known.values()}))
            raise NotFound(f"there is no {name}; there are: {names}")
        return by_service[0]


def _is_one_shot(container: Container) -> bool:
    """What sets the system up, and ends."""
    return container.service == SECRETS or container.service.endswith("-setup")


def _answers(plan: DockerPlan) -> dict[str, StateAnswer | None]:
    """Every replica's own account, asked all at once."""
    if sys.platform == "linux":
        return ask_replicas(plan)
    # Elsewhere the containers are in a virtual machine, and have no address here.
    with ThreadPoolExecutor(max(1, plan.replicas)) as pool:
        answers = pool.map(_ask_inside, plan.replica_containers.values())
        return dict(zip(plan.replica_names, answers, strict=True))


def _ask_inside(container: Container) -> StateAnswer | None:
    try:
        answer = engine.run("exec", container.name, "bash", "-c", STATE_REQUEST, timeout_s=2.0)
        return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=StateAnswer)
    except (OperationFailed, msgspec.DecodeError):
        return None


def _replica_rows(
    plan: DockerPlan, container: Container, answer: StateAnswer | None
) -> list[ReplicaRow]:
    known = {shard.shard: shard for shard in answer.shards} if answer else {}
    return [_replica_row(plan, container, shard, known.get(shard)) for shard in range(plan.shards)]


def _replica_row(
    plan: DockerPlan, container: Container, shard: int, said: ReplicaStatus | None
) -> ReplicaRow:
    is_heard = said is not None and container.state == "running"
    return ReplicaRow(
        name=container.hostname,
        pid=container.pid or None,
        container=container.name,
        state=said.state if said and is_heard else _state(container, running="starting"),
        shard=shard,
        epoch=said.epoch if said else None,
        seq=said.seq if said else None,
        digest=said.digest if said else None,
        lag=said.lag if said else None,
        leader=said.leader if said else None,
        http=plan.address(container.hostname),
        tripwire=plan.address(f"{container.hostname}/tripwire"),
        error=said.error if said else None,
    )


def _service_row(plan: DockerPlan, container: Container) -> ServiceRow:
    published = plan.published(container.service) if container.service in INSIDE else None
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
