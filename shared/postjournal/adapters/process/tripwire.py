"""The tripwire: a TCP connection by which a standby learns within a millisecond of a death.

A replica holds one connection to each replica that leads a shard. The kernel closes it when that
replica dies. When only one shard's engine dies, its replica sends a line:

- a standby sends a `Row` for each leadership that it watches, as a line of JSON;
- the leader's replica sends the row back once that incarnation is dead, or at once if it is dead
  already or unknown. A death is final, so that a quick restart hides none.

Releases before 0.2 send nothing and ignore what they receive: between them and this one only the
closing of the connection counts. A paused process or a network partition closes nothing; the
silence rule covers those.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import resource
import socket
from collections.abc import Callable

import msgspec

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
"""For a first connection, which is not urgent; the address of a dead container does not answer."""

RECONNECT_TIMEOUT_S = 0.010
"""One reconnect within 10 ms distinguishes a false alarm from a dead process."""

RETRY_S = 1.0
"""A leader whose tripwire could not be reached is tried again after this time."""

HIGH, BELOW_LIMIT = 4_096, 64
"""The listener's descriptor is this high, or this far below the system's limit."""

MAX_LINE_BYTES = 4_096
MAX_UNREAD_BYTES = 1_000_000
"""A peer that leaves more unread is disconnected; it reconnects and sends its rows again."""


class Row(msgspec.Struct, frozen=True):
    """One leadership: the incarnation that leads `shard`, and the epoch in which it does."""

    shard: int
    incarnation: str
    epoch: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Row).decode


class _Lines(asyncio.Protocol):
    """A connection on which each side sends rows, a line each; other lines are skipped."""

    transport: asyncio.Transport

    def __init__(self, on_row: Callable[[Row], None], on_lost: Callable[[], None]) -> None:
        self._on_row, self._on_lost = on_row, on_lost
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > MAX_LINE_BYTES:
            self.transport.abort()
        for line in lines:
            try:
                row = _decode(line)
            except msgspec.DecodeError:
                continue
            self._on_row(row)

    def send(self, row: Row) -> None:
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.transport.abort()
        else:
            self.transport.write(_encode(row) + b"\n")


def _closed_first(listener: socket.socket) -> socket.socket:
    """The listener, with a descriptor above those of its connections.

    Linux closes the descriptors of a dead process from the highest to the lowest (task_work runs
    last in, first out), and may be interrupted in between. A peer whose connection has ended must
    find the port closed, or it takes the death for a false alarm and learns of it milliseconds
    later: with the listener lowest, 26 of 120 reconnects on busy cores succeeded, now none does.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_least = min(limit - BELOW_LIMIT, HIGH)
    with listener:
        return socket.socket(fileno=fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD_CLOEXEC, at_least))


class TripwireServer:
    """Holds the connections of the peers that watch this replica, and announces deaths."""

    def __init__(self) -> None:
        """Accepts no connection before `start`."""
        self._alive: dict[int, str] = {}  # shard → incarnation
        self._watched: dict[_Lines, dict[int, Row]] = {}

    async def start(self, listener: socket.socket) -> asyncio.Server:
        """Accept connections. The kernel closes them all when this process dies."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._accept, sock=_closed_first(listener))

    def _accept(self) -> _Lines:
        peer = _Lines(lambda row: self._on_row(peer, row), lambda: self._on_lost(peer))
        self._watched[peer] = {}
        return peer

    def _on_lost(self, peer: _Lines) -> None:
        self._watched.pop(peer, None)

    def _on_row(self, peer: _Lines, row: Row) -> None:
        if self._alive.get(row.shard) == row.incarnation:
            self._watched[peer][row.shard] = row
        else:
            peer.send(row)

    def begin(self, shard: int, incarnation: str) -> None:
        """`incarnation` lives now; the shard's previous one is dead.

        To be called before that incarnation can claim: an unknown one counts as dead.
        """
        self.end(shard)
        self._alive[shard] = incarnation

    def end(self, shard: int) -> None:
        """The shard's incarnation is dead, if there is one."""
        incarnation = self._alive.pop(shard, None)
        for peer, rows in list(self._watched.items()):
            row = rows.pop(shard, None)
            if row is not None and row.incarnation == incarnation:
                peer.send(row)


class TripwireWatcher:
    """Watches the leaders of all shards of which this replica is a standby."""

    def __init__(self, on_fired: Callable[[Row], None]) -> None:
        """`on_fired` is called once for a watched row whose incarnation has died."""
        self._on_fired = on_fired
        self._targets: dict[int, tuple[str, Row]] = {}  # shard → address, row
        self._peers: dict[str, _Peer] = {}

    def watch(self, address: str, row: Row) -> None:
        """Watch `row`, at `address` (host:port), instead of the shard's previous leader."""
        self.unwatch(row.shard, keep=address)
        self._targets[row.shard] = (address, row)
        peer = self._peers.get(address)
        if peer is None:
            self._peers[address] = peer = _Peer(address, self)
        peer.send(row)

    def unwatch(self, shard: int, keep: str | None = None) -> None:
        """Watch no leader of `shard`; `keep`: an address whose connection is still needed."""
        address, _ = self._targets.pop(shard, (None, None))
        if address is not None and address != keep and not self.rows_at(address):
            self._peers.pop(address).close()

    def rows_at(self, address: str) -> list[Row]:
        """The watched rows of a peer."""
        return [row for at, row in self._targets.values() if at == address]

    def fire(self, address: str, row: Row) -> None:
        """`row`, received from `address`, is dead."""
        if self._targets.get(row.shard) == (address, row):
            self.unwatch(row.shard)
            self._on_fired(row)

    def fire_all(self, address: str) -> None:
        """The process at `address` is dead."""
        for row in self.rows_at(address):
            self.fire(address, row)


class _Peer:
    """The connection to one address, made again when it is lost."""

    def __init__(self, address: str, watcher: TripwireWatcher) -> None:
        self._address, self._watcher = address, watcher
        self._connection: _Lines | None = None
        self._is_closed = False
        self._task = asyncio.ensure_future(self._connect())

    def send(self, row: Row) -> None:
        """Rows that are watched already when the connection is made are sent then."""
        if self._connection is not None:
            self._connection.send(row)

    def close(self) -> None:
        self._is_closed = True
        self._task.cancel()
        if self._connection is not None:
            self._connection.transport.abort()

    async def _connect(self) -> None:
        host, _, port = self._address.rpartition(":")
        while not await self._try(host, port, CONNECT_TIMEOUT_S):
            await asyncio.sleep(RETRY_S)

    async def _try(self, host: str, port: str, timeout_s: float) -> bool:
        made = _Lines(lambda row: self._watcher.fire(self._address, row), self._on_lost)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.create_connection(lambda: made, host, int(port)), timeout_s)
        except (TimeoutError, OSError, ValueError):
            return False
        self._connection = made
        for row in self._watcher.rows_at(self._address):
            made.send(row)
        return True

    def _on_lost(self) -> None:
        lost, self._connection = self._connection, None
        if self._is_closed or lost is None:
            return
        host, port, *_ = lost.transport.get_extra_info("peername")
        self._task = asyncio.ensure_future(self._reconnect(host, str(port)))

    async def _reconnect(self, host: str, port: str) -> None:
        """To the same address, without a name to look up, which could take long."""
        if await self._try(host, port, RECONNECT_TIMEOUT_S):
            log.info("tripwire: connection to %s closed and reopened", self._address)
        else:
            self._watcher.fire_all(self._address)
