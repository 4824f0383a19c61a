"""A TCP proxy between one replica and the broker, which can be cut, stopped and slowed down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

from postjournal.cli.local.ports import HOST

CHUNK_BYTES = 65_536
ANSWER_S = 5.0


class Link:
    """One replica's way to Kafka. Lives in the loop of `Proxies`."""

    def __init__(self, listen_port: int, broker_port: int) -> None:
        """Carries everything at once, until told otherwise."""
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
        """Listen."""
        self._server = await asyncio.start_server(self._serve, HOST, self._listen_port)

    async def stop(self) -> None:
        """Listen no more, and let go of every connection."""
        if self._server is not None:
            self._server.close()
        await self.mend()
        self._reset()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ANSWER_S / 2)

    async def cut(self) -> None:
        """Reset every connection, and each that is tried, until `mend`."""
        self._open = False
        self._reset()

    async def hang(self) -> None:
        """Carry nothing, and close nothing, until `mend`: then what is held goes on its way."""
        self._flowing.clear()

    async def slow(self, delay_ms: int) -> None:
        """Whatever comes from now on is late by `delay_ms`, each way."""
        self._delay_s = delay_ms / 1000

    async def mend(self) -> None:
        """All is as it was."""
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
        except OSError:  # the broker is away
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
        """One direction. When it ends, so does the other."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                self.carried_bytes += len(data)
                await self._pass_on(data, writer)
        except OSError:  # reset: by a strike, by the broker or by the replica
            pass
        finally:
            writer.transport.abort()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Now, or when it is due; nobody overtakes who is late."""
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
    """The links of all replicas, in one thread of their own. `mend` ends every harm to a link."""

    def __init__(self, ports: dict[str, tuple[int, int]]) -> None:
        """`ports`: replica → (port of the proxy, port of the broker's listener)."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxies")
        self._thread.start()
        self._links = {name: Link(*each) for name, each in ports.items()}
        for link in self._links.values():
            self._do(link.start())

    def cut(self, name: str) -> None:
        """See `Link`."""
        self._do(self._links[name].cut())

    def hang(self, name: str) -> None:
        """See `Link`."""
        self._do(self._links[name].hang())

    def slow(self, name: str, delay_ms: int) -> None:
        """See `Link`."""
        self._do(self._links[name].slow(delay_ms))

    def mend(self, name: str) -> None:
        """See `Link`."""
        self._do(self._links[name].mend())

    def mend_all(self) -> None:
        """Of every link."""
        for name in self._links:
            self.mend(name)

    @property
    def carried_bytes(self) -> dict[str, int]:
        """Replica → what its link has carried, both ways."""
        return {name: link.carried_bytes for name, link in self._links.items()}

    def close(self) -> None:
        """End the connections and the thread."""
        for link in self._links.values():
            self._do(link.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(ANSWER_S)
