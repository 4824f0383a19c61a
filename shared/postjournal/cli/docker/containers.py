"""What Docker tells of the project's containers."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import msgspec

from postjournal.cli.docker import engine

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """`hostname`: by which a replica calls itself; `state`: Docker's word; `pid`: on this machine;
    `networks`: name → (address here, names there); `ports`: inside → on this machine.
    """

    name: str
    service: str
    hostname: str
    state: str
    pid: int
    environment: dict[str, str]
    networks: dict[str, tuple[str, tuple[str, ...]]]
    ports: dict[int, int]

    @property
    def short_name(self) -> str:
        """Without the project's name: replica-1."""
        return self.name.removeprefix(f"{engine.project()}-")


def containers() -> list[Container]:
    """Of the project, running or not, in the order of their names. Raises `OperationFailed`."""
    listed = engine.run("ps", "--all", "--quiet", "--filter", f"label={PROJECT}={engine.project()}")
    identities = listed.decode().split()
    if not identities:
        return []
    found = [_container(each) for each in msgspec.json.decode(engine.run("inspect", *identities))]
    return sorted(found, key=lambda each: (each.service, len(each.name), each.name))


def volumes() -> list[str]:
    """The project's data, with or without containers. Raises `OperationFailed`.

    Unlike `docker compose down --volumes` it is quick, and quiet where there was never any.
    """
    label = f"label={PROJECT}={engine.project()}"
    return engine.run("volume", "ls", "--quiet", "--filter", label).decode().split()


def read_file(container: str, path: str) -> str:
    """A file of a container, which need not be running; its volumes are seen too."""
    with tarfile.open(fileobj=io.BytesIO(engine.run("cp", f"{container}:{path}", "-"))) as archive:
        member = archive.extractfile(archive.getmembers()[0])
        assert member is not None
        return member.read().decode()


def _container(told: dict[str, Any]) -> Container:
    config, state = told["Config"], told["State"]
    pairs = (each.partition("=") for each in config["Env"])
    networks = told["NetworkSettings"]["Networks"]
    return Container(
        name=told["Name"].lstrip("/"),
        service=config["Labels"].get(SERVICE, ""),
        hostname=config["Hostname"],
        state=state["Status"],
        pid=state["Pid"],
        environment={name: value for name, _, value in pairs},
        networks={
            name: (network["IPAddress"], tuple(network["Aliases"] or ()))
            for name, network in networks.items()
        },
        ports=_ports(told["NetworkSettings"]["Ports"] or {}),
    )


def _ports(told: dict[str, Any]) -> dict[int, int]:
    published = ((inside, places) for inside, places in told.items() if places)
    return {int(inside.split("/")[0]): int(places[0]["HostPort"]) for inside, places in published}
