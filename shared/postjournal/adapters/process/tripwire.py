"""The tripwire: a TCP connection that closes when the leader's process dies.

The kernel closes a killed process's sockets once it has freed the process's memory, so a small
process holds them: see `tripwire_holder`. A paused process or a network partition closes nothing;
the silence rule covers those. No data is ever sent.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue

from postjournal.core import messages as m

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
"""For a first connection, which is not urgent; the address of a dead container does not answer."""

RECONNECT_TIMEOUT_S = 0.010
"""One reconnect within 10 ms distinguishes a false alarm from a dead process."""

RETRY_S = 1.0
"""A leader whose tripwire could not be reached is tried again after this time."""


class TripwireServer:
    """Accepts connections and holds them until the process ends, or `close`."""

    def __init__(self, listener: socket.socket) -> None:
        """Starts the serving thread."""
        self._listener = listener
        self._connections: set[socket.socket] = set()
        self._is_closing = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        threading.Thread(target=self._serve, daemon=True, name="tripwire-server").start()

    def _serve(self) -> None:
        while not self._is_closing:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._drop_if_closed(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # the peer has closed already, or no descriptors are left
            if not self._is_closing:
                log.warning("tripwire: accept failed: %s", error)
            return
        connection.setblocking(False)
        self._connections.add(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _drop_if_closed(self, connection: socket.socket) -> None:
        try:
            open_ = bool(connection.recv(1024))
        except BlockingIOError:
            return
        except OSError:
            open_ = False
        if not open_:
            self._selector.unregister(connection)
            self._connections.discard(connection)
            connection.close()

    def close(self) -> None:
        """Close all connections, so that every peer notices now. The process must exit then."""
        self._is_closing = True
        for open_socket in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)


class TripwireClient:
    """The `Tripwire` port: one for each shard, with a thread of its own."""

    def __init__(self, connect: Callable[..., socket.socket] = socket.create_connection) -> None:
        """Watches no leader yet. `connect`: as socket.create_connection."""
        self._connect = connect
        self._fired: SimpleQueue[m.Message] = SimpleQueue()
        self._target: tuple[str, int] | None = None  # (address, epoch)
        self._retargeting = threading.Lock()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        threading.Thread(target=self._run, daemon=True, name="tripwire").start()

    def watch(self, address: str, epoch: int) -> None:
        """Hold a connection to `address` (host:port) instead of the previous one."""
        self._retarget((address, epoch))

    def unwatch(self) -> None:
        self._retarget(None)

    def poll(self) -> list[m.Message]:
        """TripwireFired, if the connection has closed. Never waits."""
        messages: list[m.Message] = []
        while not self._fired.empty():
            messages.append(self._fired.get())
        return messages

    def _retarget(self, target: tuple[str, int] | None) -> None:
        with self._retargeting:
            self._target = target
        with contextlib.suppress(BlockingIOError):  # a wake-up is pending already
            self._wake_in.send(b"x")

    def _run(self) -> None:
        while True:
            target = self._target
            if target is None:
                self._wait_for_wake(None)
                continue
            connection = self._try_connect(target[0], CONNECT_TIMEOUT_S)
            if connection is None:
                self._wait_for_wake(RETRY_S)
            else:
                self._hold(connection, target)

    def _hold(self, connection: socket.socket, target: tuple[str, int]) -> None:
        """Return when the connection has closed or another target is set."""
        while self._target is target:
            if not self._closes(connection):
                continue
            connection.close()
            again = self._try_connect(target[0], RECONNECT_TIMEOUT_S)
            if again is None:
                self._fire(target)
                return
            log.info("tripwire: connection to %s closed and reopened", target[0])
            connection = again
        connection.close()

    def _fire(self, target: tuple[str, int]) -> None:
        with self._retargeting:
            if self._target is target:
                self._target = None
                self._fired.put(m.TripwireFired(target[1]))

    def _closes(self, connection: socket.socket) -> bool:
        """Wait for the connection or a wake-up; whether the connection has closed."""
        self._selector.register(connection, selectors.EVENT_READ)
        ready = {key.fileobj for key, _ in self._selector.select()}
        self._selector.unregister(connection)
        if self._wake_out in ready:
            self._drain()
        if connection not in ready:
            return False
        try:
            return not connection.recv(1024)
        except OSError:
            return True

    def _wait_for_wake(self, timeout_s: float | None) -> None:
        if self._selector.select(timeout_s):
            self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_out.recv(1024):
                pass

    def _try_connect(self, address: str, timeout_s: float) -> socket.socket | None:
        host, _, port = address.rpartition(":")
        try:
            return self._connect((host, int(port)), timeout=timeout_s)
        except (OSError, ValueError):
            return None
