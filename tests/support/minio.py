"""A real MinIO as a process, and a proxy before it that injects faults."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.cli.local.ports import choose_ports
from postjournal.config.settings import StoreSettings

KEY, SECRET, BUCKET = "tester", "tester-secret", "postjournal"


def binary() -> str | None:
    """The path from POSTJOURNAL_MINIO or the PATH; None: tests that need MinIO are skipped."""
    return os.environ.get("POSTJOURNAL_MINIO") or shutil.which("minio")


class MinIO:
    """One server with one bucket, and its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / BUCKET).mkdir(parents=True, exist_ok=True)
        self.port = choose_ports({"minio": 9000}, prefer_wanted=False)["minio"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = binary()
        assert program is not None
        environment = {
            "MINIO_ROOT_USER": KEY,
            "MINIO_ROOT_PASSWORD": SECRET,
            "MINIO_BROWSER": "off",
        }
        self._process = subprocess.Popen(
            [program, "server", str(self._folder), "--address", f"127.0.0.1:{self.port}"],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ObjectStore(self.settings()).check()

    def settings(
        self, port: int | None = None, bucket: str = BUCKET, key: str = KEY, secret: str = SECRET
    ) -> StoreSettings:
        """The store's settings. `port`: of a proxy to connect to instead."""
        url = f"s3://{bucket}/some/prefix?endpoint=http://127.0.0.1:{port or self.port}"
        return StoreSettings(url, key, secret)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Proxy:
    """A TCP proxy on loopback that can replace the answer or close connections.

    `answer`: sent for every request instead of the server's answer; `bytes_left`: after this many
    more bytes towards the server, all connections are closed; `broken`: how many were.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self.answer: bytes | None = None
        self.bytes_left: int | None = None
        self.broken = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.answer is not None:
            with client:
                client.recv(65536)
                client.sendall(self.answer)
            return
        if self.bytes_left is not None and self.bytes_left <= 0:
            self.broken += 1
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()
        self._pump(client, server, True)

    def _pump(self, source: socket.socket, sink: socket.socket, is_upward: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_upward and self.bytes_left is not None:
                    self.bytes_left -= len(data)
                    if self.bytes_left <= 0:
                        self.broken += 1
                        break
                sink.sendall(data)
        except OSError:
            pass
        for connection in (source, sink):
            connection.close()


def refusal(status: str, code: str, message: str) -> bytes:
    """An error answer of S3."""
    return _response(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")


def success() -> bytes:
    """What a store without conditional writes answers to a write, a list and a delete."""
    return _response("200 OK", "<All><Deleted><Key>x</Key></Deleted></All>")


def _response(status: str, body: str) -> bytes:
    return (
        f'HTTP/1.1 {status}\r\nETag: "1"\r\nConnection: close\r\n'
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
