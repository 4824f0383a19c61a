"""Replicas and a coordinator as processes, on a Kafka that all tests share.

A leader that gets no CPU for 400 ms is replaced, which is correct, and on a busy machine that
happens at any moment. A test must hold through it: `Cluster` waits for a leader, and repeats what
was interrupted by a change of leader.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import requests

from postjournal.cli.coordinator import CoordinatorClient, SnapshotRow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.ports import choose_ports
from tests.support.services import Service
from tests.support.topics import publish

Json = dict[str, Any]
T = TypeVar("T")

TIMEOUT_S = 180
ATTEMPTS = 20
"""At what an election interrupts: no machine changes its leader so often in a row."""


class Cluster:
    """One shard. Its snapshots are in a directory unless `environment` names another store."""

    def __init__(self, kafka: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.namespace = f"test-{uuid.uuid4().hex[:8]}"
        self.snapshots = folder / "snapshots"
        self.environment = {
            "POSTJOURNAL_BOOTSTRAP": kafka,
            "POSTJOURNAL_NAMESPACE": self.namespace,
            "POSTJOURNAL_ADVERTISE": "127.0.0.1",
            "POSTJOURNAL_SNAPSHOT_URL": self.snapshots.as_uri(),
            "POSTJOURNAL_SNAPSHOT_EVERY_MINUTES": "0",
            "POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS": "0",
            **environment,
        }
        self.services: dict[str, Service] = {}
        self.sent = 0
        self._kafka = kafka
        self._ports: dict[str, int] = {}

    # --- processes --------------------------------------------------------------------------

    def start(self, name: str, **environment: str) -> None:
        """Start a replica; a coordinator if `name` begins with `coordinator`."""
        if name not in self._ports:
            ports = choose_ports({"http": 7070, "tripwire": 7071}, prefer_wanted=False)
            self._ports[name] = ports["http"]
            self._ports[f"{name}/tripwire"] = ports["tripwire"]
        port = str(self._ports[name])
        own = {
            "POSTJOURNAL_REPLICA": name,
            "POSTJOURNAL_HTTP_PORT": port,
            "POSTJOURNAL_TRIPWIRE_PORT": str(self._ports[f"{name}/tripwire"]),
            "POSTJOURNAL_COORDINATOR_PORT": port,
        }
        module = "services.coordinator" if _is_coordinator(name) else "services.replica"
        output = self.folder / f"{name}.log"
        self.services[name] = Service(module, output, self.environment | own | environment)

    def restart(self, name: str) -> None:
        """Kill and start a replica, and wait until it has caught up."""
        self.services[name].kill()
        self.start(name)
        self.wait_until_in_sync()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def log(self, name: str) -> str:
        return self.services[name].log

    # --- state ------------------------------------------------------------------------------

    def state(self, name: str) -> Json:
        """The replica's report of its shard; {} when it does not answer, or has none yet."""
        try:
            answer = requests.get(f"{self.url(name)}/state", timeout=10)
        except requests.RequestException:
            return {}
        found: Json = answer.json()["shards"][0] if answer.ok else {}
        return found

    @property
    def replicas(self) -> list[str]:
        return [name for name in self.services if not _is_coordinator(name)]

    def others(self, name: str) -> list[str]:
        return [replica for replica in self.replicas if replica != name]

    def in_state(self, state: str) -> list[str]:
        return [name for name in self.replicas if self.state(name).get("state") == state]

    def leads_among(self, names: list[str]) -> bool:
        return any(self.state(name).get("state") == "leader" for name in names)

    def one_in_state(self, state: str) -> str:
        """Wait for a replica in that state; of several the first."""
        return self.wait_for(lambda: self.in_state(state))[0]

    def are_at(self, seq: int, names: list[str]) -> bool:
        return all(self.state(name).get("seq") == seq for name in names)

    # --- waiting ----------------------------------------------------------------------------

    def wait_for(self, value: Callable[[], T], timeout_s: float = TIMEOUT_S) -> T:
        """The first result of `value` that is true."""
        deadline = time.monotonic() + timeout_s
        while not (found := value()):
            assert time.monotonic() < deadline, {name: self.state(name) for name in self.replicas}
            time.sleep(0.03)
        return found

    def wait_until_in_sync(self) -> None:
        """One leader, the others standbys, all with the same seq and digest."""

        def is_in_sync() -> bool:
            states = [self.state(name) for name in self.replicas]
            found = sorted(str(state.get("state")) for state in states)
            positions = {(state.get("seq"), state.get("digest")) for state in states}
            expected = ["leader", *["standby"] * (len(states) - 1)]
            return found == expected and len(positions) == 1

        self.wait_for(is_in_sync)

    # --- leadership -------------------------------------------------------------------------

    @property
    def leader(self) -> str:
        return self.leadership()[0]

    def leadership(self) -> tuple[str, int]:
        """The leader and its epoch, as soon as no replica reports a later epoch."""

        def known() -> list[tuple[str, int]]:
            states = {name: state for name in self.replicas if (state := self.state(name))}
            newest = max((state["epoch"] for state in states.values()), default=0)
            leaders = [name for name, state in states.items() if state["state"] == "leader"]
            return [(name, newest) for name in leaders if states[name]["epoch"] == newest]

        return self.wait_for(known)[0]

    def in_one_epoch(self, act: Callable[[], T]) -> T:
        """Call `act` again until the leader has not changed during the call."""
        for _ in range(ATTEMPTS):
            before = self.leadership()
            result = act()
            if self.leadership() == before:
                return result
        raise AssertionError(f"{ATTEMPTS} times the leader has changed")

    def hand_over(self, successor: str) -> None:
        """Request the handover until `successor` leads.

        The coordinator may not know the successor yet, or another replica may have taken over.
        """
        body = {"shard": 0, "successor": successor}

        def leads() -> bool:
            if self.leads_among([successor]):
                return True
            try:
                requests.post(f"{self.url('coordinator')}/api/v1/handover", json=body, timeout=20)
            except requests.RequestException:
                return False
            return self.leads_among([successor])

        self.wait_for(leads)

    def led_by(self, name: str, act: Callable[[], T]) -> T:
        """Call `act` again until `name` has led during the whole call."""
        for _ in range(ATTEMPTS):
            self.hand_over(name)
            before = self.leadership()
            result = act()
            if before[0] == name and self.leadership() == before:
                return result
        raise AssertionError(f"{name} does not keep the leadership")

    # --- commands ---------------------------------------------------------------------------

    def send(self, *commands: Json) -> None:
        """Append commands to the feed; one without an id gets the next of `c1`, `c2`, ..."""
        values = []
        for command in commands:
            self.sent += 1
            values.append(msgspec.json.encode({"id": f"c{self.sent}"} | command))
        publish(self._kafka, f"{self.namespace}.feed", values, key=b"main")

    def apply(self, count: int, names: list[str] | None = None) -> None:
        """Send `count` commands and wait until the replicas `names` (all) have applied them."""
        deposit = {"type": "deposit", "account": "a", "amount": 1}
        opened = [] if self.sent else [{"type": "open", "account": "a"}]
        self.send(*opened, *[deposit] * (count - len(opened)))
        self.wait_for(lambda: self.are_at(self.sent, names or self.replicas))

    # --- snapshots --------------------------------------------------------------------------

    @property
    def coordinator(self) -> CoordinatorClient:
        return CoordinatorClient(self.url("coordinator"), {})

    def request_snapshot(self, *, allow_leader: bool = False) -> str:
        """Ask the coordinator as soon as it knows a standby; returns the snapshot's id."""

        def accepted() -> str:
            try:
                return self.coordinator.request_snapshot(None, allow_leader=allow_leader)[0]
            except OperationFailed:
                return ""

        return self.wait_for(accepted)

    def wait_for_snapshot(self, snapshot_id: str, state: str = "done") -> SnapshotRow:
        def in_state() -> list[SnapshotRow]:
            try:
                rows = self.coordinator.snapshot(snapshot_id)
            except OperationFailed:  # a coordinator that has just started does not know it yet
                return []
            return [row for row in rows[:1] if row.state == state]

        return self.wait_for(in_state)[0]

    def snapshot(self) -> SnapshotRow:
        return self.wait_for_snapshot(self.request_snapshot())

    def files(self) -> set[str]:
        return {path.name for path in self.snapshots.rglob("*") if path.is_file()}

    def manifests(self) -> list[str]:
        return [name for name in self.files() if name.endswith(".json")]


def is_ready(url: str) -> bool:
    """Whether the service at `url` answers `/readyz` with 200."""
    try:
        return requests.get(f"{url}/readyz", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def _is_coordinator(name: str) -> bool:
    return name.startswith("coordinator")


@contextmanager
def running_cluster(
    kafka: str, folder: Path, replicas: int = 3, environment: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """`replicas` replicas in sync, named r0, r1, ..., and a coordinator that is ready."""
    cluster = Cluster(kafka, folder, environment or {})
    try:
        for name in [*(f"r{number}" for number in range(replicas)), "coordinator"]:
            cluster.start(name)
        cluster.wait_until_in_sync()
        cluster.wait_for(lambda: is_ready(cluster.url("coordinator")))
        yield cluster
    finally:
        for service in cluster.services.values():
            if service.is_alive:
                service.kill()
