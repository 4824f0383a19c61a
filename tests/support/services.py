"""Service processes, a Redis process, and the records that services exchange."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import redis

from postjournal.cli.local.ports import choose_ports
from postjournal.cli.local.redis_server import redis_configuration, redis_server
from postjournal.cluster.status import ReplicaStatus, StatusRecord
from tests.support.topics import publish


def outputs(sequences: Iterable[int], **fields: object) -> list[bytes]:
    return [msgspec.json.encode({**fields, "seq": seq}) for seq in sequences]


def without_repeats(outputs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a subscriber sees: each seq once; fails at a gap.

    A leader that is deposed while it publishes may have published what its successor publishes.
    """
    unique: list[dict[str, Any]] = []
    for output in outputs:
        assert output["seq"] <= len(unique), f"gap before {output}"
        if output["seq"] == len(unique):
            unique.append(output)
        else:
            assert output == unique[output["seq"]], "one seq with two contents"
    return unique


def balance(seq: int, account: str, amount: int) -> bytes:
    return msgspec.json.encode({"seq": seq, "account": account, "balance": amount, "id": "x"})


def publish_status(kafka: str, namespace: str, *records: StatusRecord) -> None:
    values = [msgspec.json.encode(record) for record in records]
    publish(kafka, f"{namespace}.status", values)


def replica_status(
    name: str, state: str, epoch: int, leader: str | None, **changes: object
) -> ReplicaStatus:
    now = time.time_ns() // 1_000_000
    status = ReplicaStatus(
        replica=name,
        incarnation=name,
        pid=1,
        shard=0,
        state=state,
        epoch=epoch,
        leader=leader,
        leader_address=f"{leader}:7071" if leader else None,
        since=now,
        seq=epoch,
        digest="00",
        lag=0,
        lag_s=0.0,
        http="h:1",
        tripwire="h:2",
        time=now,
    )
    return msgspec.structs.replace(status, **changes)


def eventually(condition: Callable[[], object], timeout_s: float = 120) -> None:
    """Poll until `condition` is true; a network, Redis or key error counts as not yet true."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except (OSError, KeyError, redis.RedisError):
            assert time.monotonic() < deadline
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(0.02)


class Service:
    """A process of a service, with its output in a file."""

    def __init__(self, module: str, output: Path, environment: dict[str, str]) -> None:
        self._output = output
        with output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                env=os.environ | environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._output.read_text()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def terminate(self, timeout_s: float = 60) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def signal_all(self, number: signal.Signals) -> None:
        """To all processes of the service."""
        os.killpg(self.process.pid, number)


@contextmanager
def running(module: str, output: Path, **environment: str) -> Iterator[Service]:
    service = Service(module, output, environment)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.kill()


class RedisProcess:
    """A Redis that one test may stop and pause."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = choose_ports({"redis": 6379}, prefer_wanted=False)["redis"]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        configuration = self._folder / "redis.conf"
        configuration.write_text(redis_configuration(self._folder, self._port))
        self._process = subprocess.Popen(
            [redis_server(), str(configuration)], stdout=subprocess.DEVNULL
        )

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None
