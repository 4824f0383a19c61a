"""Runs a service in gunicorn: one worker process with threads, for threads and Kafka clients."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from postjournal.config.settings import Settings
from postjournal.core.errors import ConfigurationError
from services import monitoring
from services.process import EXIT_CONFIGURATION

log = logging.getLogger(__name__)

GRACE_S = 4
"""Shorter than the timeout of process managers; once waiting requests are released, nothing takes
longer."""

Halt = Callable[[ConfigurationError], None]
"""Called from any thread with an invalid configuration: the process exits with code 78."""


class Running(Protocol):
    """A service that runs in the worker process."""

    @property
    def app(self) -> Flask:
        """The HTTP interface."""

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics, served at the monitoring port because this port may be public."""

    @property
    def trouble(self) -> str:
        """Why it cannot do its work now, or ""."""

    def release_waiting(self) -> None:
        """Answer all waiting requests now, without what they wait for."""

    def close(self) -> None:
        """Stop all threads."""


@dataclass(frozen=True)
class ServerOptions:
    """`name`: for the log; `port` 0: any free port, which the log has; `threads`: for requests."""

    name: str
    port: int
    threads: int


class Server(BaseApplication):  # type: ignore[misc]
    """A configured gunicorn. The service starts in the worker, because threads do not survive a
    fork."""

    def __init__(
        self, options: ServerOptions, settings: Settings, start: Callable[[Halt], Running]
    ) -> None:
        """`start`: called in the worker; creates the service."""
        self._options, self._settings, self._start = options, settings, start
        self.running: Running | None = None
        self.is_misconfigured = mmap.mmap(-1, 1)  # shared with the worker
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.bind}:{self._options.port}",
            "workers": 1,
            "worker_class": Worker,
            "threads": self._options.threads,
            "worker_connections": 4 * self._options.threads,
            "keepalive": 30,
            "graceful_timeout": GRACE_S,
            # Enough for a path with a percent-encoded account name of 128 characters.
            "limit_request_line": 8190,
            "accesslog": None,
            "loglevel": "warning",
            "control_socket_disable": True,
            "proc_name": f"postjournal-{self._options.name}",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called by gunicorn, in the worker."""
        self.running = running = self._start(self._halt)
        try:
            monitoring.serve(self._settings, running.registry, lambda: "", lambda: running.trouble)
        except ConfigurationError as error:
            self._halt(error)
        log.info("%s on %s:%d", self._options.name, self._settings.bind, self._options.port)
        return running.app

    def serve(self) -> None:
        """Serve until SIGTERM; exits with 78 after a call of `Halt`."""
        try:
            self.run()
        except SystemExit:
            if self.is_misconfigured[0]:
                sys.exit(EXIT_CONFIGURATION)
            raise

    def _halt(self, error: ConfigurationError) -> None:
        """Called in the worker; makes the master exit instead of starting another worker."""
        log.critical("invalid configuration: %s", error)
        self.is_misconfigured[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Releases waiting requests at SIGTERM, because gunicorn then waits for all requests."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.app.running is not None:
            self.app.running.release_waiting()
        super().handle_exit(sig, frame)

    def run(self) -> None:
        try:
            super().run()
        finally:
            if self.app.running is not None:
                self.app.running.close()
