"""The record of a running local system: its processes' settings and addresses."""

from __future__ import annotations

import msgspec

from postjournal.cli.local.layout import Layout
from postjournal.cli.local.ports import HOST


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a running local system.

    `token`: identifies the system's processes, which have it in their environment; `directory`:
    the state directory; `ports`: port name → number; `socket`: supervisord's control socket;
    `environment`: added to the services' environment; `snapshot_url`: of the snapshot store;
    `api_token`: what the coordinator requires for changes, "": nothing; `may_crash`: whether the
    page of an interactive system may crash replicas; `application`, `dedupe_window`: the services'
    settings, "" and 0 in the record of a version that did not write them.
    """

    token: str
    directory: str
    namespace: str
    replicas: int
    shards: int
    ports: dict[str, int]
    socket: str
    environment: dict[str, str]
    snapshot_url: str = ""
    api_token: str = ""
    may_crash: bool = True
    application: str = ""
    dedupe_window: int = 0

    @property
    def replica_names(self) -> list[str]:
        return [f"replica-{i + 1}" for i in range(self.replicas)]

    def address(self, name: str) -> str:
        """Return host:port of the port `name`, for example `kafka` or `replica-1/tripwire`."""
        return f"{HOST}:{self.ports[name]}"

    def url(self, name: str) -> str:
        return f"http://{self.address(name)}"

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses that `up` prints, by name."""
        return {
            "gateway": self.url("producer"),
            "live page": self.url("coordinator")
            + (f"/#token={self.api_token}" * self.is_interactive),
            "replicas": ", ".join(self.url(name) for name in self.replica_names),
            "kafka": self.address("kafka"),
            "redis": self.redis_url,
        }

    @property
    def is_interactive(self) -> bool:
        """Whether `up` started the system for an operator; tests and benches have no token."""
        return bool(self.api_token)

    @property
    def redis_url(self) -> str:
        """The value of `POSTJOURNAL_REDIS_URL`."""
        return f"redis://{self.address('redis')}/0"


def read_plan(layout: Layout) -> Plan | None:
    """Return the record in the state directory, or None.

    A record that this version cannot decode counts as none, and so does one in a copy of a state
    directory: the system that it describes is that of the original.
    """
    try:
        plan = msgspec.json.decode(layout.plan.read_bytes(), type=Plan)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return plan if plan.directory == str(layout.directory) else None


def write_plan(layout: Layout, plan: Plan) -> None:
    """Replace the record atomically."""
    new = layout.plan.with_suffix(".new")
    new.touch(mode=0o600)  # it contains tokens
    new.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    new.replace(layout.plan)
