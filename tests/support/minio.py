"""A real MinIO as a process, and a proxy before it that makes trouble."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from postjournal.adapters.snapshots.object_store import ObjectStore
from postjournal.cli.local.ports import choose_ports
from postjournal.config.settings import StoreSettings

KEY, SECRET, BUCKET = "tester", "tester-secret", "postjournal"


def binary() -> str | None:
    """From POSTJOURNAL_MINIO or the PATH; None: tests that need it are skipped."""
    return os.environ.get("POSTJOURNAL_MINIO") or shutil.which("minio")


class MinIO:
    """One server with one bucket, in a folder of its own."""

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
        """`port`: a proxy's."""
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
    """TCP on loopback: passes on, slows down, breaks off, or answers by itself.

    `answer`: what every request gets instead of the server's answer; `bytes_left`: after so many
    more bytes towards the server all connections are broken off; `rate`: bytes/s, at most.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self.answer: bytes | None = None
        self.bytes_left: int | None = None
        self.rate: int | None = None
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
                if self.rate is not None:
                    time.sleep(len(data) / self.rate)
                if is_upward and self.bytes_left is not None:
                    self.bytes_left -= len(data)
                    if self.bytes_left <= 0:
                        self.broken += 1
                        break
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            each.close()


def refusal(status: str, code: str, message: str) -> bytes:
    """What S3 says when it does not want to."""
    return _response(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")


def yes_to_everything() -> bytes:
    """What a store says that knows no conditions: written, listed (nothing), deleted."""
    return _response("200 OK", "<All><Deleted><Key>x</Key></Deleted></All>")


def _response(status: str, body: str) -> bytes:
    return (
        f'HTTP/1.1 {status}\r\nETag: "1"\r\nConnection: close\r\n'
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
