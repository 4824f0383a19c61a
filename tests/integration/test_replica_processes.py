"""The processes of a replica: one ends or hangs, and what becomes of the others."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import requests

from postjournal.cli.local.ports import choose_ports
from postjournal.core.sharding import shard_of
from tests.support.services import Service, eventually
from tests.support.topics import publish, read_json

pytestmark = pytest.mark.kafka

Json = dict[str, Any]
SHARDS = 2

FAULTY = '''
"""A ledger whose engine has a fault when it receives a signal: in its main thread, as `decide`.

On replica b it crashes when an account `poison` is opened.
"""

import ctypes
import os
import signal

from postjournal.ledger import Ledger


def hang(*_):
    while True:
        pass


def crash(*_):
    ctypes.string_at(0)


def leak(*_):
    memory = []
    while True:
        memory.append(bytearray(10_000_000))


class Faulty(Ledger):
    def __init__(self):
        signal.signal(signal.SIGUSR1, hang)
        signal.signal(signal.SIGUSR2, crash)
        signal.signal(signal.SIGALRM, leak)

    def evolve(self, state, event):
        if os.environ["POSTJOURNAL_REPLICA"] == "b" and getattr(event, "account", "") == "poison":
            os.abort()
        super().evolve(state, event)
'''

KEYS = [
    next(f"k{n}" for n in range(99) if shard_of(f"k{n}".encode(), SHARDS) == shard)
    for shard in range(SHARDS)
]


class Replica:
    """One replica of two shards."""

    def __init__(self, kafka: str, namespace: str, name: str, folder: Path) -> None:
        ports = choose_ports({"http": 7070, "tripwire": 7071}, prefer_wanted=False)
        self.url = f"http://127.0.0.1:{ports['http']}"
        self.port = ports["http"]
        self.service = Service(
            "services.replica",
            folder / f"{name}.log",
            {
                "POSTJOURNAL_BOOTSTRAP": kafka,
                "POSTJOURNAL_NAMESPACE": namespace,
                "POSTJOURNAL_REPLICA": name,
                "POSTJOURNAL_SHARDS": str(SHARDS),
                "POSTJOURNAL_ADVERTISE": "127.0.0.1",
                "POSTJOURNAL_HTTP_PORT": str(ports["http"]),
                "POSTJOURNAL_TRIPWIRE_PORT": str(ports["tripwire"]),
            },
        )

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=30)

    def shard(self, shard: int) -> Json:
        shards: list[Json] = self.get("/state").json()["shards"]
        return next(status for status in shards if status["shard"] == shard)

    def engine(self, shard: int) -> int:
        pid: int = self.shard(shard)["pid"]
        return pid

    def http_process(self) -> psutil.Process:
        """The one child that is no engine."""
        engines = {self.engine(shard) for shard in range(SHARDS)}
        children = psutil.Process(self.service.process.pid).children()
        (found,) = [child for child in children if child.pid not in engines]
        return found

    def in_sync(self) -> bool:
        return self.get("/readyz").status_code == 200

    def leads(self, shard: int) -> bool:
        return bool(self.shard(shard)["state"] == "leader")


class Pair:
    """Two replicas; `leader` leads both shards."""

    def __init__(self, kafka: str, namespace: str, folder: Path) -> None:
        self.kafka, self.namespace = kafka, namespace
        self.leader = Replica(kafka, namespace, "a", folder)
        eventually(lambda: all(map(self.leader.leads, range(SHARDS))))
        self.standby = Replica(kafka, namespace, "b", folder)
        eventually(self.standby.in_sync)

    def send(self, shard: int, **command: object) -> None:
        key = KEYS[shard].encode()
        value = msgspec.json.encode(command)
        publish(self.kafka, f"{self.namespace}.commands", [value], shard, key=key)


@pytest.fixture
def pair(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("POSTJOURNAL_APP", "faulty:Faulty")
    made = Pair(kafka, f"test-{uuid.uuid4().hex[:8]}", tmp_path)
    yield made
    for replica in (made.leader, made.standby):
        if replica.service.is_alive:
            replica.service.kill()


def _exhaust_memory(pid: int) -> None:
    process = psutil.Process(pid)
    limit = process.memory_info().vms + 200_000_000
    process.rlimit(psutil.RLIMIT_AS, (limit, limit))
    os.kill(pid, signal.SIGALRM)


FAULTS: dict[str, tuple[Callable[[int], None], str]] = {
    "SIGKILL": (lambda pid: os.kill(pid, signal.SIGKILL), "killed by SIGKILL"),
    "SIGSTOP": (lambda pid: os.kill(pid, signal.SIGSTOP), "stuck for"),
    "endless loop": (lambda pid: os.kill(pid, signal.SIGUSR1), "stuck for"),
    "segmentation fault": (lambda pid: os.kill(pid, signal.SIGUSR2), "killed by SIGSEGV"),
    "out of memory": (_exhaust_memory, "MemoryError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_engine_concerns_only_its_shard(pair: Pair, fault: str) -> None:
    inject, cause = FAULTS[fault]
    leader, standby = pair.leader, pair.standby
    faulty, healthy = leader.engine(0), leader.engine(1)
    inject(faulty)
    eventually(lambda: standby.leads(0))
    eventually(lambda: leader.in_sync() and leader.shard(0)["state"] == "standby")
    assert leader.engine(0) != faulty
    assert leader.engine(1) == healthy
    assert leader.leads(1)
    status = leader.shard(0)
    assert cause in status["last_end"]
    assert cause in leader.service.log
    assert re.search(r'postjournal_engine_ends_total{.*shard="0"} 1.0', leader.get("/metrics").text)
    for shard in range(SHARDS):
        pair.send(shard, type="open", id=f"{shard}", account="x")
        (result,) = read_json(pair.kafka, f"{pair.namespace}.results", 1, shard)[:1]
        assert result["status"] == "accepted"


def test_an_engine_that_dies_three_times_at_one_record_halts_before_it(pair: Pair) -> None:
    """The kernel would kill one that needs too much memory in the same way."""
    leader, standby = pair.leader, pair.standby
    pair.send(0, type="open", id="1", account="x")
    pair.send(0, type="open", id="2", account="poison")
    eventually(lambda: standby.shard(0)["state"] == "halted")
    assert standby.service.log.count("ended: killed by SIGABRT") == 3
    status = standby.shard(0)
    offset = status["last_end"].rsplit(maxsplit=1)[1]
    assert f"each time that it applied the entry at offset {offset} " in status["error"]
    assert standby.shard(1)["state"] == "standby"
    assert leader.leads(0)
    pair.send(0, type="open", id="3", account="y")
    eventually(lambda: leader.get("/query/0?account=y").status_code == 200)


def test_the_other_processes_die_with_the_main_one(pair: Pair) -> None:
    leader = pair.leader
    children = psutil.Process(leader.service.process.pid).children()
    assert len(children) == SHARDS + 1
    os.kill(children[0].pid, signal.SIGSTOP)  # a paused one as well
    leader.service.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    eventually(lambda: all(map(pair.standby.leads, range(SHARDS))))
    with socket.create_server(("127.0.0.1", leader.port)):
        pass  # the port is free for the restarted replica


def test_the_http_process_is_restarted_and_nothing_else_notices(pair: Pair) -> None:
    leader = pair.leader
    engines = [leader.engine(shard) for shard in range(SHARDS)]
    leader.http_process().kill()
    eventually(leader.in_sync)
    assert [leader.engine(shard) for shard in range(SHARDS)] == engines
    assert all(map(leader.leads, range(SHARDS)))
    pair.send(0, type="open", id="1", account="x")
    eventually(lambda: leader.get("/query/0?account=x").status_code == 200)


def test_slow_and_many_http_clients_end_nothing(pair: Pair) -> None:
    leader = pair.leader
    engine = leader.engine(0)
    clients = []
    for number in range(1_000):
        client = socket.create_connection(("127.0.0.1", leader.port), timeout=60)
        client.sendall(b"GET /metrics HTTP/1.1\r\n" + (b"\r\n" if number % 2 else b""))
        clients.append(client)
    began = time.monotonic()
    os.kill(engine, signal.SIGKILL)
    eventually(lambda: pair.standby.leads(0))
    assert time.monotonic() - began < 30
    assert leader.engine(1) in {
        child.pid for child in psutil.Process(leader.service.process.pid).children()
    }
    for client in clients:
        client.close()


def test_a_signal_to_the_whole_group_stops_cleanly(pair: Pair) -> None:
    """As Ctrl-C sends it: the engines resign first."""
    pair.leader.service.signal_all(signal.SIGTERM)
    assert pair.leader.service.process.wait(60) == 0
    assert "stop requested" in pair.leader.service.log
    eventually(lambda: all(map(pair.standby.leads, range(SHARDS))))


def test_a_pause_of_the_whole_replica_ends_no_engine(pair: Pair) -> None:
    """When it is resumed, everything has been silent for long."""
    standby = pair.standby
    engines = [standby.engine(shard) for shard in range(SHARDS)]
    standby.service.signal_all(signal.SIGSTOP)
    time.sleep(11)  # longer than an engine may be stuck
    standby.service.signal_all(signal.SIGCONT)
    eventually(standby.in_sync)
    time.sleep(1)
    assert [standby.engine(shard) for shard in range(SHARDS)] == engines


def test_the_main_process_has_no_application_and_no_kafka_client(pair: Pair) -> None:
    maps = Path(f"/proc/{pair.leader.service.process.pid}/maps").read_text()
    assert "rdkafka" not in maps
    assert psutil.Process(pair.leader.service.process.pid).num_threads() <= SHARDS + 3
