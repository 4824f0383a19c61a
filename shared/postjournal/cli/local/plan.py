"""The record of a running local system: what was started, and where it listens."""

from __future__ import annotations

import msgspec

from postjournal.cli.local.layout import Layout
from postjournal.cli.local.ports import HOST


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`token`: in the environment of every process of the system, and in no other's.

    `directory`: the state directory; `ports`: port name → number; `socket`: supervisord's
    control socket; `environment`: what the caller adds to the services' environment;
    `snapshot_url`: where snapshots are kept; `api_token`: what the coordinator wants to see before
    it changes anything, "": nothing; `may_crash`: whether the page of a watched system may crash
    replicas; `application`, `dedupe_window`: as the services were told, "" and 0 in the record of a
    version that did not note them.
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
        """`replica-1` and so on."""
        return [f"replica-{i + 1}" for i in range(self.replicas)]

    def address(self, name: str) -> str:
        """host:port of the port `name`, for example `kafka` or `replica-1/tripwire`."""
        return f"{HOST}:{self.ports[name]}"

    def url(self, name: str) -> str:
        """The HTTP address of the port `name`."""
        return f"http://{self.address(name)}"

    @property
    def addresses(self) -> dict[str, str]:
        """What people open or connect to."""
        return {
            "gateway": self.url("producer"),
            "live page": self.url("coordinator") + (f"/#token={self.api_token}" * self.is_watched),
            "replicas": ", ".join(self.url(name) for name in self.replica_names),
            "kafka": self.address("kafka"),
            "redis": self.redis_url,
        }

    @property
    def is_watched(self) -> bool:
        """People look at this system."""
        return bool(self.api_token)

    @property
    def redis_url(self) -> str:
        """What `POSTJOURNAL_REDIS_URL` is set to."""
        return f"redis://{self.address('redis')}/0"


def read_plan(layout: Layout) -> Plan | None:
    """The record in the state directory; None when there is none that this version can read.

    Nor is there one in a copy of a state directory: the system is the original's.
    """
    try:
        plan = msgspec.json.decode(layout.plan.read_bytes(), type=Plan)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return plan if plan.directory == str(layout.directory) else None


def write_plan(layout: Layout, plan: Plan) -> None:
    """Replace the record, whole or not at all."""
    new = layout.plan.with_suffix(".new")
    new.touch(mode=0o600)  # it holds tokens
    new.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    new.replace(layout.plan)
