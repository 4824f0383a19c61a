"""A Kafka broker that answers only metadata requests, also as one that has just started."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

API_VERSIONS, METADATA = 18, 3
SUPPORTED = ((API_VERSIONS, 0, 0), (METADATA, 0, 1))
UNSUPPORTED_VERSION, LEADER_NOT_AVAILABLE = 35, 5
TOPIC = "t"


class FakeBroker:
    """Listens on 127.0.0.1; has one topic of one partition."""

    def __init__(self) -> None:
        self.is_fresh = False
        """True: answers as a broker that has just started; it knows the topic but no broker."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and close all connections."""
        with suppress(OSError):  # closed before
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that closes its connection may reset it.
        with suppress(OSError), connection, connection.makefile("rb") as requests:
            while len(size := requests.read(4)) == 4:
                request = requests.read(int.from_bytes(size, "big"))
                key, version, correlation = struct.unpack(">hhi", request[:8])
                if key not in (API_VERSIONS, METADATA):
                    return
                answer = self._versions(version) if key == API_VERSIONS else self._metadata()
                connection.sendall(struct.pack(">ii", 4 + len(answer), correlation) + answer)

    def _versions(self, requested: int) -> bytes:
        """`requested`: the version of the request itself; only 0 is supported."""
        listed = b"".join(struct.pack(">hhh", *versions) for versions in SUPPORTED)
        error = UNSUPPORTED_VERSION if requested else 0
        return struct.pack(">hi", error, len(SUPPORTED)) + listed

    def _metadata(self) -> bytes:
        """A metadata response, version 1: brokers, controller, topics."""
        broker = struct.pack(">i", 1) + _text("127.0.0.1") + struct.pack(">ih", self.port, -1)
        brokers = struct.pack(">i", 0) if self.is_fresh else struct.pack(">i", 1) + broker
        error, leader = (LEADER_NOT_AVAILABLE, -1) if self.is_fresh else (0, 1)
        replicas = struct.pack(">iiii", 1, 1, 1, 1)
        partition = struct.pack(">hii", error, 0, leader) + replicas
        topic = struct.pack(">h", 0) + _text(TOPIC) + struct.pack(">bi", 0, 1) + partition
        return brokers + struct.pack(">ii", 1, 1) + topic


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()
