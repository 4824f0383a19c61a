"""Replicas and a coordinator as processes, on a Kafka that tests share.

A leader that gets no CPU for 400 ms is replaced, as it must be, and a busy machine gives none for
longer than that. So a test here must hold with an election at any moment: `Cluster` has what
waits for a leader, and what does a thing anew when the leader has changed meanwhile.
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
from confluent_kafka import Producer

from postjournal.cli.coordinator import CoordinatorClient, SnapshotRow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.ports import choose_ports
from tests.support.services import Service

Json = dict[str, Any]
T = TypeVar("T")

PATIENCE_S = 180
ATTEMPTS = 20
"""At what an election spoils: no machine changes its leader so often."""


class Cluster:
    """One shard; snapshots in a directory, or wherever `environment` says."""

    def __init__(self, kafka: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.kafka, self.folder = kafka, folder
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
        self._ports: dict[str, int] = {}
        self.sent = 0

    def start(self, name: str, **environment: str) -> None:
        """A replica, or `coordinator`."""
        if name not in self._ports:
            ports = choose_ports({"http": 7070, "wire": 7071}, prefer_wanted=False)
            self._ports[name], self._ports[f"{name}/wire"] = ports["http"], ports["wire"]
        port = str(self._ports[name])
        is_coordinator = name.startswith("coordinator")
        own = {
            "POSTJOURNAL_REPLICA": name,
            "POSTJOURNAL_HTTP_PORT": port,
            "POSTJOURNAL_TRIPWIRE_PORT": str(self._ports[f"{name}/wire"]),
            "POSTJOURNAL_COORDINATOR_PORT": port,
        }
        module = "services.coordinator" if is_coordinator else "services.replica"
        output = self.folder / f"{name}.log"
        self.services[name] = Service(module, output, self.environment | own | environment)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def state(self, name: str) -> Json:
        """What the replica says of its shard; {} when it does not answer."""
        try:
            found: Json = requests.get(f"{self.url(name)}/state", timeout=10).json()["shards"][0]
        except requests.RequestException:
            return {}
        return found

    def said(self, name: str) -> str:
        return self.services[name].said

    @property
    def replicas(self) -> list[str]:
        return [name for name in self.services if not name.startswith("coordinator")]

    def in_state(self, state: str) -> list[str]:
        return [name for name in self.replicas if self.state(name).get("state") == state]

    def leads_among(self, names: list[str]) -> bool:
        return any(self.state(name).get("state") == "leader" for name in names)

    def one_in_state(self, state: str) -> str:
        """As soon as there is one; of several the first."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = self.in_state(state)
            return bool(found)

        self.wait(is_there)
        return found[0]

    @property
    def leader(self) -> str:
        return self.leadership()[0]

    def leadership(self) -> tuple[str, int]:
        """Who leads in which epoch, as soon as nobody knows of a later one."""
        found: list[tuple[str, int]] = []

        def is_known() -> bool:
            states = {name: state for name in self.replicas if (state := self.state(name))}
            newest = max((state["epoch"] for state in states.values()), default=0)
            leaders = [name for name, state in states.items() if state["state"] == "leader"]
            found[:] = [(name, newest) for name in leaders if states[name]["epoch"] == newest]
            return bool(found)

        self.wait(is_known)
        return found[0]

    def in_one_epoch(self, act: Callable[[], T]) -> T:
        """What `act` returns, done anew when the leader has changed meanwhile."""
        for _ in range(ATTEMPTS):
            before = self.leadership()
            result = act()
            if self.leadership() == before:
                return result
        raise AssertionError(f"{ATTEMPTS} times the leader has changed")

    def hand_over(self, successor: str) -> None:
        """Asked for until it leads: the coordinator may not know it yet, another be faster."""
        body = {"shard": 0, "successor": successor}

        def leads() -> bool:
            if self.leads_among([successor]):
                return True
            try:
                requests.post(f"{self.url('coordinator')}/api/v1/handover", json=body, timeout=20)
            except requests.RequestException:
                return False
            return self.leads_among([successor])

        self.wait(leads)

    def led_by(self, name: str, act: Callable[[], T]) -> T:
        """What `act` returns, done anew until that one has led from beginning to end."""
        for _ in range(ATTEMPTS):
            self.hand_over(name)
            before = self.leadership()
            result = act()
            if before[0] == name and self.leadership() == before:
                return result
        raise AssertionError(f"{name} does not keep the leadership")

    def wait(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, {name: self.state(name) for name in self.replicas}
            time.sleep(0.03)

    def wait_until_in_sync(self) -> None:
        """One leader, the others standby, all at the same place."""

        def holds() -> bool:
            states = [self.state(name) for name in self.replicas]
            kinds = sorted(str(each.get("state")) for each in states)
            places = {(each.get("seq"), each.get("digest")) for each in states}
            wanted = ["leader", *["standby"] * (len(states) - 1)]
            return kinds == wanted and len(places) == 1

        self.wait(holds)

    def send(self, *commands: Json) -> None:
        """Into the feed; each gets an id if it has none."""
        producer = Producer({"bootstrap.servers": self.kafka, "enable.idempotence": True})
        for command in commands:
            self.sent += 1
            value = msgspec.json.encode({"id": f"c{self.sent}"} | command)
            producer.produce(f"{self.namespace}.feed", value, b"main", 0)
        assert producer.flush(60) == 0

    def grow(self, count: int) -> None:
        """So many more commands, decided and known to all replicas."""
        self.grow_only(count, self.replicas)

    def grow_only(self, count: int, names: list[str]) -> None:
        """The same, known to the replicas `names`."""
        deposit = {"type": "deposit", "account": "a", "amount": 1}
        opened = [] if self.sent else [{"type": "open", "account": "a"}]
        self.send(*opened, *[deposit] * (count - len(opened)))
        self.wait(lambda: self.are_at(self.sent, names))

    def are_at(self, seq: int, names: list[str]) -> bool:
        return all(self.state(name).get("seq") == seq for name in names)

    @property
    def coordinator(self) -> CoordinatorClient:
        return CoordinatorClient(self.url("coordinator"), {})

    def wait_for_coordinator(self) -> None:
        self.wait(lambda: answers(f"{self.url('coordinator')}/readyz"))

    def ask(self, *, allow_leader: bool = False) -> str:
        """Of the coordinator, as soon as it knows a standby."""
        asked: list[str] = []

        def accepted() -> bool:
            try:
                asked.append(self.coordinator.request_snapshot(None, allow_leader=allow_leader)[0])
            except OperationFailed:
                return False
            return True

        self.wait(accepted)
        return asked[0]

    def wait_for_snapshot(self, snapshot_id: str, state: str = "done") -> SnapshotRow:
        rows: list[SnapshotRow] = []

        def has_come() -> bool:
            try:
                rows[:] = self.coordinator.snapshot(snapshot_id)
            except OperationFailed:  # it has just started and does not know yet
                return False
            return bool(rows) and rows[0].state == state

        self.wait(has_come)
        return rows[0]

    def snapshot(self) -> SnapshotRow:
        return self.wait_for_snapshot(self.ask())

    def files(self) -> set[str]:
        return {path.name for path in self.snapshots.rglob("*") if path.is_file()}


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


@contextmanager
def cluster(
    kafka: str, folder: Path, replicas: int = 3, environment: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """In sync, with a coordinator."""
    made = Cluster(kafka, folder, environment or {})
    try:
        for number in range(replicas):
            made.start(f"r{number}")
        made.wait_until_in_sync()
        made.start("coordinator")
        made.wait_for_coordinator()
        yield made
    finally:
        for service in made.services.values():
            if service.is_alive:
                service.kill()
