"""The forked child: what it writes, what it leaves alone, and that it never outlives anybody."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from postjournal.adapters.snapshots.forked_writer import ChildFailed, ForkedWriter
from postjournal.recovery import codec as snapshot_codec


def written(writer: ForkedWriter) -> bytes:
    try:
        return b"".join(snapshot_codec.decompress(writer.chunks()))
    finally:
        writer.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_written_is_the_state_at_the_fork() -> None:
    state = {"a": b"then"}

    def content() -> Iterator[bytes]:
        yield state["a"] * 100_000

    writer = ForkedWriter(content)
    state["a"] = b"after"
    assert written(writer) == b"then" * 100_000
    assert writer.content_size == 400_000


def test_a_child_whose_reader_is_slow_waits() -> None:
    writer = ForkedWriter(lambda: (os.urandom(1 << 20) for _ in range(8)))
    time.sleep(0.3)
    assert len(written(writer)) == 8 << 20


def test_a_failure_in_the_child_is_raised() -> None:
    def content() -> Iterator[bytes]:
        yield b"some"
        raise ValueError("no more")

    with pytest.raises(ChildFailed, match="ValueError: no more"):
        written(ForkedWriter(content))


def test_a_killed_child_is_reported() -> None:
    def content() -> Iterator[bytes]:
        yield os.urandom(1_000_000)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildFailed, match="exited with status 9"):
        written(ForkedWriter(content))


def test_a_child_can_be_killed_and_leaves_no_zombie() -> None:
    def content() -> Iterator[bytes]:
        while True:
            yield os.urandom(1 << 20)

    writer = ForkedWriter(content)
    child = psutil.Process(writer._pid)
    chunks = writer.chunks()
    next(chunks)
    writer.kill()
    with pytest.raises(ChildFailed):
        for _ in chunks:
            pass
    writer.close()
    assert not child.is_running()


def test_the_child_holds_no_descriptor_but_its_pipes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def content() -> Iterator[bytes]:
            links = list(Path("/proc/self/fd").iterdir())
            kept = [str(link.readlink()) for link in links if link.is_symlink()]
            yield " ".join(kept).encode()

        if not Path("/proc/self/fd").exists():
            pytest.skip("needs Linux")
        output = written(ForkedWriter(content)).decode()
        assert server.fileno() > 0
    assert output.count("pipe:") == 2
    assert "socket:" not in output


PARENT = """
import os, socket, sys, threading, time
from postjournal.adapters.snapshots.forked_writer import ForkedWriter

server = socket.create_server(("127.0.0.1", 0))
peer = socket.create_connection(server.getsockname())
held, _ = server.accept()

def content():
    yield b"x"
    while True:
        time.sleep(0.01)

writers = []
def fork():
    writers.append(ForkedWriter(content))
    time.sleep(1000 if sys.argv[1] == "live" else 0.5)

thread = threading.Thread(target=fork, daemon=True)
thread.start()
while not writers:
    time.sleep(0.001)
print(writers[0]._pid, server.getsockname()[1], flush=True)
time.sleep(1000)
"""


def start_parent(how: str) -> tuple[subprocess.Popen[str], int, int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child, port = map(int, parent.stdout.readline().split())
    return parent, child, port


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends at its next write")
def test_a_killed_parents_child_dies_too_and_its_sockets_close_at_once() -> None:
    """Or the standbys' tripwires would not fire while a snapshot is under way."""
    parent, child, port = start_parent("live")
    with socket.create_connection(("127.0.0.1", port)) as tripwire:
        parent.kill()
        tripwire.settimeout(120)
        with contextlib.suppress(ConnectionResetError):
            assert tripwire.recv(1) == b""
    parent.wait(60)
    wait_until(lambda: not psutil.pid_exists(child))
    with socket.create_server(("127.0.0.1", port)):
        pass  # the port is free for the restarted parent


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends at its next write")
def test_the_child_of_a_halted_shards_thread_dies_too() -> None:
    parent, child, _ = start_parent("end")
    try:
        wait_until(lambda: psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    finally:
        parent.kill()
        parent.wait(60)
