"""A TCP proxy between one replica and the broker, which can reset, hold and delay connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

from postjournal.cli.local.ports import HOST

CHUNK_BYTES = 65_536
TIMEOUT_S = 5.0


class Link:
    """One replica's connections to Kafka. Lives in the event loop of `Proxies`."""

    def __init__(self, listen_port: int, broker_port: int) -> None:
        self._listen_port, self._broker_port = listen_port, broker_port
        self._open = True
        self._delay_s = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._due_s: WeakKeyDictionary[asyncio.StreamWriter, float] = WeakKeyDictionary()
        self._server: asyncio.Server | None = None
        self.carried_bytes = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self._listen_port)

    async def stop(self) -> None:
        """Stop listening, and close every connection."""
        if self._server is not None:
            self._server.close()
        await self.heal()
        self._reset()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TIMEOUT_S / 2)

    async def cut(self) -> None:
        """Reset every connection, and each new one, until `heal`."""
        self._open = False
        self._reset()

    async def hang(self) -> None:
        """Forward nothing and close nothing until `heal`, which forwards what was held."""
        self._flowing.clear()

    async def delay(self, delay_ms: int) -> None:
        """Forward what arrives from now on `delay_ms` later, each way."""
        self._delay_s = delay_ms / 1000

    async def heal(self) -> None:
        self._open, self._delay_s = True, 0.0
        self._flowing.set()

    def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        try:
            from_broker, to_broker = await asyncio.open_connection(HOST, self._broker_port)
        except OSError:  # the broker is down
            writer.transport.abort()
            return
        ends = (writer, to_broker)
        self._writers.update(ends)
        tasks = {
            asyncio.create_task(self._carry(reader, to_broker)),
            asyncio.create_task(self._carry(from_broker, writer)),
        }
        self._tasks |= tasks
        await asyncio.wait(tasks)
        self._tasks -= tasks
        self._writers.difference_update(ends)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction; when it ends, abort the other."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                self.carried_bytes += len(data)
                await self._forward(data, writer)
        except OSError:  # reset: by a fault, by the broker or by the replica
            pass
        finally:
            writer.transport.abort()

    async def _forward(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Write now or when it is due, but never before data that arrived earlier."""
        loop = asyncio.get_running_loop()
        due_s = max(loop.time() + self._delay_s, self._due_s.get(writer, 0.0) + 1e-6)
        if due_s > loop.time() + 1e-4:
            self._due_s[writer] = due_s
            loop.call_at(due_s, _write, writer, data)
        else:
            writer.write(data)
            await writer.drain()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


class Proxies:
    """The links of all replicas, in a thread of their own; see `Link` for the faults."""

    def __init__(self, ports: dict[str, tuple[int, int]]) -> None:
        """`ports`: replica → (port of the proxy, port of the broker's listener)."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxies")
        self._thread.start()
        self._links = {name: Link(*pair) for name, pair in ports.items()}
        for link in self._links.values():
            self._run(link.start())

    def cut(self, name: str) -> None:
        self._run(self._links[name].cut())

    def hang(self, name: str) -> None:
        self._run(self._links[name].hang())

    def delay(self, name: str, delay_ms: int) -> None:
        self._run(self._links[name].delay(delay_ms))

    def heal(self, name: str) -> None:
        self._run(self._links[name].heal())

    @property
    def carried_bytes(self) -> dict[str, int]:
        """Replica → how many bytes its link has forwarded, both ways."""
        return {name: link.carried_bytes for name, link in self._links.items()}

    def close(self) -> None:
        """Close all connections and end the thread."""
        for link in self._links.values():
            self._run(link.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(TIMEOUT_S)
