"""Typed messages between the processes of one replica, over a connected pair of sockets.

A message is one msgpack value after its length. Sending never waits: what the socket does not take
now is queued, so that a process that is stuck or paused stops no other. A message may carry one
file descriptor.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

LENGTH = struct.Struct("!I")
READ_BYTES = 1 << 18
MAX_QUEUED_BYTES = 64_000_000
"""A process that leaves more than this unread is cut off; its parent restarts it."""

_encode = msgspec.msgpack.Encoder().encode


class Channel:
    """One end. It belongs to the thread of the event loop that is running when it is made."""

    def __init__(
        self,
        connected: socket.socket,
        incoming: Any,
        on_message: Callable[[Any, int | None], None],
        on_closed: Callable[[], None],
    ) -> None:
        """`incoming`: the union of the messages to receive.

        `on_message(message, descriptor)`, `on_closed()`: called by the event loop; `on_closed`
        once, when the other end is closed or has sent what is no message.
        """
        connected.setblocking(False)
        self._socket, self._loop = connected, asyncio.get_running_loop()
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._on_message, self._on_closed = on_message, on_closed
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._queued: deque[tuple[memoryview, list[int]]] = deque()
        self._queued_bytes = 0
        self.is_closed = False
        self._loop.add_reader(connected.fileno(), self._read)

    # --- sending ----------------------------------------------------------------------------

    def send(self, message: msgspec.Struct, descriptor: int | None = None) -> None:
        """Send in the loop's thread. `descriptor` is closed here once it has been sent.

        A closed channel sends nothing.
        """
        owned = [] if descriptor is None else [descriptor]
        body = _encode(message)
        frame = memoryview(LENGTH.pack(len(body)) + body)
        if self.is_closed or self._queued_bytes > MAX_QUEUED_BYTES:
            _close(owned)
            self.close()
            return
        self._queued.append((frame, owned))
        self._queued_bytes += len(frame)
        if len(self._queued) == 1:
            self._write()

    def send_soon(self, message: msgspec.Struct) -> None:
        """Send from any other thread. An ended loop sends nothing."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.send, message)

    def _write(self) -> None:
        while self._queued:
            frame, descriptors = self._queued[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self._socket, [frame], descriptors)
                else:
                    sent = self._socket.send(frame)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._write)
                return
            except OSError:
                self.close()
                return
            _close(descriptors)
            self._queued_bytes -= sent
            if sent == len(frame):
                self._queued.popleft()
            else:
                self._queued[0] = (frame[sent:], [])
        self._loop.remove_writer(self._socket.fileno())

    # --- receiving --------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, READ_BYTES, 8)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self.close()
            return
        self._received += data
        while not self.is_closed and (body := self._next_body()) is not None:
            try:
                message = self._decode(body)
            except msgspec.DecodeError:
                self.close()
                return
            has_descriptor = getattr(message, "has_descriptor", False)
            self._on_message(message, self._descriptors.popleft() if has_descriptor else None)

    def _next_body(self) -> bytes | None:
        received = self._received
        if len(received) < LENGTH.size:
            return None
        end = LENGTH.size + LENGTH.unpack_from(received)[0]
        if len(received) < end:
            return None
        body = bytes(received[LENGTH.size : end])
        del received[:end]
        return body

    def close(self) -> None:
        """Close this end; `on_closed` is called."""
        if self.is_closed:
            return
        self.is_closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        _close(self._descriptors)
        for _, descriptors in self._queued:
            _close(descriptors)
        self._queued.clear()
        self._on_closed()


def _close(descriptors: list[int] | deque[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            socket.close(descriptor)
