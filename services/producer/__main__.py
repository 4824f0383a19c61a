"""`python -m services.producer`: the HTTP gateway on gunicorn.

One worker process, since the requests that wait for results and the metrics are in its memory;
threads, since most requests wait for Kafka or a replica.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from postjournal.app import load_application
from postjournal.core.errors import ConfigurationError
from postjournal.settings import Settings
from services import monitoring
from services.process import EXIT_CONFIGURATION, run
from services.producer.app import Gateway, make_app
from services.producer.kafka_results import MAX_WAITING
from services.producer.wiring import Running, start

log = logging.getLogger("services.producer")

THREADS = MAX_WAITING + 56
"""However many requests wait for results, others still find a thread."""

GRACE_S = 4
"""Shorter than process managers wait; nothing takes longer, once waiting requests are let go."""


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured. Everything that has threads is made in the worker, after the fork."""

    def __init__(self, settings: Settings, port: int) -> None:
        """`port` 0: any free one, as the log tells."""
        self._settings, self._port = settings, port
        self.running: Running | None = None
        self.is_misconfigured = mmap.mmap(-1, 1)  # shared with the worker
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.bind}:{self._port}",
            "workers": 1,
            "worker_class": GatewayWorker,
            "threads": THREADS,
            "worker_connections": 4 * THREADS,
            "keepalive": 30,
            "graceful_timeout": GRACE_S,
            # A path that holds an account name of 128 characters, percent-encoded.
            "limit_request_line": 8190,
            "accesslog": None,
            "loglevel": "warning",
            "control_socket_disable": True,
            "proc_name": "postjournal-gateway",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called by gunicorn, in the worker."""
        self.running = start(self._settings, self._halt)
        self._watch(self.running.gateway)
        log.info("gateway on %s:%d", self._settings.bind, self._port)
        return make_app(self.running.gateway)

    def _watch(self, gateway: Gateway) -> None:
        """Metrics are on a port of their own: the public reaches this one."""
        registry = gateway.metrics.registry
        try:
            monitoring.serve(self._settings, registry, lambda: "", lambda: gateway.trouble)
        except ConfigurationError as error:
            self._halt(error)

    def _halt(self, error: ConfigurationError) -> None:
        """In the worker: tell the master that there is no use in another one."""
        log.critical("configuration: %s", error)
        self.is_misconfigured[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)


class GatewayWorker(ThreadWorker):  # type: ignore[misc]
    """Lets waiting requests go before it waits for requests to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM."""
        if self.app.running is not None:
            self.app.running.release_waiting()
        super().handle_exit(sig, frame)

    def run(self) -> None:
        """Until SIGTERM."""
        try:
            super().run()
        finally:
            self.app.running.close()


def gateway_port(environment: Mapping[str, str]) -> int:
    """POSTJOURNAL_GATEWAY_PORT. Raises `ConfigurationError`."""
    text = environment.get("POSTJOURNAL_GATEWAY_PORT") or "8080"
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ConfigurationError(f"POSTJOURNAL_GATEWAY_PORT={text!r}: must be 0 to 65535")
    return int(text)


def main() -> None:
    """Until SIGTERM. Raises `ConfigurationError`."""
    settings = Settings.from_environment()
    load_application(settings.app)  # a wrong one is told here, before there are processes
    server = Server(settings, gateway_port(os.environ))
    try:
        server.run()
    except SystemExit:
        if server.is_misconfigured[0]:
            sys.exit(EXIT_CONFIGURATION)
        raise


if __name__ == "__main__":
    run(main)
