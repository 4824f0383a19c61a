"""The process that holds a replica's tripwire: it outlives everything but the replica."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the replica holds it")

REPLICA = """
import sys, time
from postjournal.adapters.process.tripwire_holder import hold_tripwire
kept_open = open("/dev/null")
print(hold_tripwire("127.0.0.1", 0), flush=True)
sys.stdin.read()
"""


@dataclass
class Replica:
    """A process that does nothing but to have a tripwire."""

    process: subprocess.Popen[str]
    port: int

    @property
    def holder(self) -> psutil.Process:
        (holder,) = psutil.Process(self.process.pid).children()
        return holder

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def is_held(self, connection: socket.socket) -> bool:
        """Nothing has closed it, and another one is taken as well."""
        self.connect().close()
        connection.setblocking(False)
        try:
            connection.recv(1)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def replica() -> Iterator[Replica]:
    with subprocess.Popen(
        [sys.executable, "-c", REPLICA], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Replica(process, int(process.stdout.readline()))
        process.kill()


def is_sprung(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_it_fires_when_the_replica_dies_and_leaves_nothing(end: str, replica: Replica) -> None:
    holder, connection = replica.holder, replica.connect()
    if end == "killed":
        replica.process.kill()
    else:
        assert replica.process.stdin is not None
        replica.process.stdin.close()
    assert is_sprung(connection)
    holder.wait(120)
    with pytest.raises(ConnectionError):
        replica.connect()
    with socket.create_server(("127.0.0.1", replica.port)):
        pass  # the port is free for the restarted replica


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_group_does_not_fire_it(
    number: signal.Signals, replica: Replica
) -> None:
    """The replica resigns first."""
    connection = replica.connect()
    replica.holder.send_signal(number)
    assert replica.is_held(connection)


def test_a_paused_replica_keeps_its_tripwire(replica: Replica) -> None:
    connection = replica.connect()
    replica.process.send_signal(signal.SIGSTOP)
    assert replica.is_held(connection)
    replica.process.send_signal(signal.SIGCONT)
    assert replica.is_held(connection)


def test_a_replica_whose_holder_dies_exits(replica: Replica) -> None:
    """It would lead without a tripwire, and would be found dead only by its silence."""
    replica.holder.kill()
    assert replica.process.wait(120) == 1


def test_the_holder_keeps_no_other_file_of_the_replicas_open(replica: Replica) -> None:
    connection = replica.connect()
    assert replica.is_held(connection)
    folder = Path(f"/proc/{replica.holder.pid}/fd")
    opened = {str(file.readlink()) for file in folder.iterdir() if int(file.name) > 2}
    assert not any(name.startswith("/") for name in opened), opened
