"""The project's containers, as Docker reports them."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import msgspec

from postjournal.cli.docker import engine

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container.

    `hostname`: also the name of a replica; `state`: as Docker reports it; `pid`: on this machine;
    `networks`: network → (its address, its aliases there); `ports`: container port → port on
    this machine.
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
        """The name without the project's, for example replica-1."""
        return self.name.removeprefix(f"{engine.project()}-")


def containers() -> list[Container]:
    """Return the project's containers, running or not, sorted. Raises `OperationFailed`."""
    listed = engine.run("ps", "--all", "--quiet", "--filter", f"label={PROJECT}={engine.project()}")
    ids = listed.decode().split()
    if not ids:
        return []
    found = [_container(fields) for fields in msgspec.json.decode(engine.run("inspect", *ids))]
    return sorted(found, key=lambda found: (found.service, len(found.name), found.name))


def volumes() -> list[str]:
    """Return the names of the project's volumes. Raises `OperationFailed`.

    Faster than `docker compose down --volumes`, and prints nothing when there are none.
    """
    label = f"label={PROJECT}={engine.project()}"
    return engine.run("volume", "ls", "--quiet", "--filter", label).decode().split()


def read_file(container: str, path: str) -> str:
    """Return the text of a file in a container or its volumes; the container may be stopped."""
    with tarfile.open(fileobj=io.BytesIO(engine.run("cp", f"{container}:{path}", "-"))) as archive:
        member = archive.extractfile(archive.getmembers()[0])
        assert member is not None
        return member.read().decode()


def _container(fields: dict[str, Any]) -> Container:
    """`fields`: one object of `docker inspect`."""
    config, state = fields["Config"], fields["State"]
    pairs = (variable.partition("=") for variable in config["Env"])
    networks = fields["NetworkSettings"]["Networks"]
    return Container(
        name=fields["Name"].lstrip("/"),
        service=config["Labels"].get(SERVICE, ""),
        hostname=config["Hostname"],
        state=state["Status"],
        pid=state["Pid"],
        environment={name: value for name, _, value in pairs},
        networks={
            name: (network["IPAddress"], tuple(network["Aliases"] or ()))
            for name, network in networks.items()
        },
        ports=_ports(fields["NetworkSettings"]["Ports"] or {}),
    )


def _ports(bindings: dict[str, Any]) -> dict[int, int]:
    published = ((port, hosts) for port, hosts in bindings.items() if hosts)
    return {int(port.split("/")[0]): int(hosts[0]["HostPort"]) for port, hosts in published}
