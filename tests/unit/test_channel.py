"""Messages between the processes of a replica."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from postjournal.adapters.process import channel
from postjournal.adapters.process.channel import Channel


class Text(msgspec.Struct, tag=True, array_like=True):
    """Any text."""

    text: str


class File(msgspec.Struct, tag=True, array_like=True):
    """Comes with a descriptor."""

    name: str

    @property
    def has_descriptor(self) -> bool:
        return True


class Ends:
    """Two connected channels, and what the right one received."""

    def __init__(self) -> None:
        self.sockets = socket.socketpair()
        left, right = self.sockets
        self.received: list[tuple[Text | File, int | None]] = []
        self.closed: list[str] = []
        self.left = self._make(left, "left")
        self.right = self._make(right, "right")

    def _make(self, connected: socket.socket, name: str) -> Channel:
        return Channel(
            connected,
            Text | File,
            lambda *message: self.received.append(message),
            lambda: self.closed.append(name),
        )

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)

    def close(self) -> None:
        self.left.close()
        self.right.close()


def run(test: Callable[[Ends], Awaitable[None]]) -> None:
    async def with_ends() -> None:
        ends = Ends()
        await test(ends)
        ends.close()

    asyncio.run(with_ends())


def test_messages_of_any_size_arrive_in_order_with_their_descriptors() -> None:
    async def test(ends: Ends) -> None:
        out, into = os.pipe()
        sent = [Text("a"), Text("b" * 3_000_000), File("pipe"), Text("c")]
        for message in sent:
            ends.left.send(message, into if isinstance(message, File) else None)
        await ends.until(lambda: len(ends.received) == len(sent))
        assert [message for message, _ in ends.received] == sent
        descriptors = [descriptor for _, descriptor in ends.received]
        assert [descriptor is None for descriptor in descriptors] == [True, True, False, True]
        assert descriptors[2] is not None
        os.write(descriptors[2], b"x")
        assert os.read(out, 1) == b"x"
        os.close(descriptors[2])
        assert os.read(out, 1) == b""  # the sender's own is closed as well
        os.close(out)

    run(test)


def test_a_process_that_reads_nothing_delays_nobody_and_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "MAX_QUEUED_BYTES", 1_000_000)

    async def test(ends: Ends) -> None:
        ends.right._loop.remove_reader(ends.sockets[1].fileno())
        for _ in range(100):
            ends.left.send(Text("x" * 100_000))
        assert ends.closed == ["left"]
        ends.left.send(Text("y"))

    run(test)


def test_what_is_no_message_closes_the_channel() -> None:
    async def test(ends: Ends) -> None:
        ends.sockets[0].send(b"\0\0\0\1\xff")
        await ends.until(lambda: "right" in ends.closed)
        assert ends.closed.count("right") == 1

    run(test)


def test_the_end_of_the_other_process_closes_the_channel() -> None:
    async def test(ends: Ends) -> None:
        ends.left.close()
        await ends.until(lambda: ends.closed == ["left", "right"])

    run(test)


def test_another_thread_may_send() -> None:
    async def test(ends: Ends) -> None:
        await asyncio.to_thread(ends.left.send_soon, Text("a"))
        await ends.until(lambda: ends.received)

    run(test)
