"""The tripwire's two sides, over loopback connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from postjournal.adapters.process import tripwire
from postjournal.adapters.process.tripwire import Row, TripwireServer, TripwireWatcher

ROW = Row(0, "a-1", 5)
DEADLINE_S = 60.0


class Replica:
    """A replica's server, which can die and come back at the same address."""

    def __init__(self, **alive: str) -> None:
        """`alive`: `s0="a-1"` for the incarnation of shard 0."""
        self._alive = {int(name[1:]): incarnation for name, incarnation in alive.items()}
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self._listener: socket.socket | None = listener
        self.server = TripwireServer()

    async def start(self) -> None:
        for shard, incarnation in self._alive.items():
            self.server.begin(shard, incarnation)
        listener, self._listener = self._listener, None
        if listener is None:
            host, _, port = self.address.rpartition(":")
            listener = socket.create_server((host, int(port)))
        self._serving = await self.server.start(listener)

    async def die(self) -> None:
        """As the kernel does it: no more listener, and all connections closed."""
        self._serving.close()
        for peer in list(self.server._watched):
            peer.transport.abort()
        await asyncio.sleep(0)

    async def watched(self, count: int = 1) -> None:
        """Return when peers watch so many rows."""
        async with asyncio.timeout(DEADLINE_S):
            while sum(map(len, self.server._watched.values())) != count:
                await asyncio.sleep(0.001)


class Standby:
    """A watcher, and what it was told."""

    def __init__(self) -> None:
        self.fired: asyncio.Queue[Row] = asyncio.Queue()
        self.watcher = TripwireWatcher(self.fired.put_nowait)

    async def next(self) -> Row:
        return await asyncio.wait_for(self.fired.get(), DEADLINE_S)

    async def is_quiet(self) -> bool:
        await asyncio.sleep(0.05)
        return self.fired.empty()


@asynccontextmanager
async def watching(leader: Replica, row: Row = ROW) -> AsyncIterator[Standby]:
    await leader.start()
    standby = Standby()
    standby.watcher.watch(leader.address, row)
    yield standby
    standby.watcher.unwatch(row.shard)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 2 * DEADLINE_S)

    asyncio.run(bounded())


def test_a_dead_process_loses_its_port_before_its_connections() -> None:
    """Linux closes the highest descriptor first."""

    async def test() -> None:
        leader = Replica(s0="a-1")
        async with watching(leader):
            await leader.watched()
            [listener] = leader._serving.sockets
            [peer] = leader.server._watched
            connection = peer.transport.get_extra_info("socket")
            assert listener.getsockname() == connection.getsockname()
            assert listener.fileno() > connection.fileno() + 500

    run(test)


def test_it_fires_when_the_replica_dies() -> None:
    async def test() -> None:
        leader = Replica(s0="a-1")
        async with watching(leader) as standby:
            await leader.watched()
            await leader.die()
            assert await standby.next() == ROW

    run(test)


def test_it_fires_when_only_the_engine_dies_and_only_for_its_shard() -> None:
    async def test() -> None:
        leader = Replica(s0="a-1", s1="b-1")
        async with watching(leader) as standby:
            standby.watcher.watch(leader.address, Row(1, "b-1", 7))
            await leader.watched(2)
            assert len(leader.server._watched) == 1, "one connection for both"
            leader.server.end(0)
            assert await standby.next() == ROW
            assert await standby.is_quiet()
            leader.server.begin(1, "b-2")
            assert await standby.next() == Row(1, "b-1", 7)

    run(test)


def test_a_quick_restart_hides_no_death() -> None:
    """Of the engine: the row is dead when it arrives. Of the replica: it knows nothing of it."""

    async def test() -> None:
        leader = Replica(s0="a-2")
        async with watching(leader) as standby:
            assert await standby.next() == ROW
        again = Replica(s0="a-1")
        async with watching(again) as standby:
            await again.watched()
            await again.die()
            successor = Replica()
            successor.address = again.address
            successor._listener = None
            await successor.start()
            assert await standby.next() == ROW

    run(test)


def test_a_connection_that_closes_and_opens_again_does_not_fire() -> None:
    async def test() -> None:
        leader = Replica(s0="a-1")
        async with watching(leader) as standby:
            await leader.watched()
            for peer in list(leader.server._watched):
                peer.transport.abort()
            await asyncio.sleep(0)
            await leader.watched(0)
            await leader.watched()
            assert await standby.is_quiet()

    run(test)


def test_a_leader_that_does_not_answer_within_10_ms_is_dead() -> None:
    """The tripwire's one reconnect: docs/protocol.md."""
    assert tripwire.RECONNECT_TIMEOUT_S == 0.010


def test_a_leader_that_could_not_be_reached_is_tried_again() -> None:
    async def test() -> None:
        leader = Replica(s0="a-1")
        assert leader._listener is not None
        leader._listener.close()
        leader._listener = None
        standby = Standby()
        standby.watcher.watch(leader.address, ROW)
        assert await standby.is_quiet()
        await leader.start()
        await leader.watched()

    run(test)


def test_a_successor_is_watched_instead() -> None:
    async def test() -> None:
        first, second = Replica(s0="a-1"), Replica(s0="b-1")
        await second.start()
        async with watching(first) as standby:
            await first.watched()
            standby.watcher.watch(second.address, Row(0, "b-1", 6))
            await second.watched()
            await first.watched(0)
            await first.die()
            assert await standby.is_quiet()
            second.server.end(0)
            assert await standby.next() == Row(0, "b-1", 6)

    run(test)


def test_a_release_that_sends_no_rows_fires_by_its_connection_alone() -> None:
    """Releases before 0.2: see docs/protocol.md."""

    async def test() -> None:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append(writer)
            await reader.read()

        held: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        standby = Standby()
        standby.watcher.watch(f"127.0.0.1:{port}", ROW)
        while not held:
            await asyncio.sleep(0.001)
        assert await standby.is_quiet()
        server.close()
        held[0].transport.abort()
        assert await standby.next() == ROW

    run(test)


def test_a_peer_of_such_a_release_is_told_by_the_connection_alone() -> None:
    async def test() -> None:
        leader = Replica(s0="a-1")
        await leader.start()
        host, _, port = leader.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        leader.server.end(0)
        await asyncio.sleep(0.02)
        await leader.die()
        assert await reader.read() == b""
        writer.close()

    run(test)


def test_lines_that_are_no_rows_are_skipped() -> None:
    async def test() -> None:
        leader = Replica(s0="a-1")
        await leader.start()
        host, _, port = leader.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b'GET / HTTP/1.1\r\n\r\n[1]\n{"shard":0,"incarnation":"x","epoch":1}\n')
        assert await reader.readline() == b'{"shard":0,"incarnation":"x","epoch":1}\n'
        writer.write(b"x" * 10_000)
        assert await reader.read() == b""
        writer.close()

    run(test)
