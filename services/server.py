"""gunicorn for a service whose state is threads and Kafka clients: one worker process, threads."""

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
"""Shorter than process managers wait; released requests do not take longer."""

Halt = Callable[[ConfigurationError], None]
"""Called by any thread with a configuration error: the process exits with code 78."""


class Running(Protocol):
    """A service that runs in the worker."""

    @property
    def app(self) -> Flask:
        """Its HTTP interface."""

    @property
    def registry(self) -> CollectorRegistry:
        """Its metrics, which are served on another port, since this one may be public."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why it cannot work now; None when it can."""

    def release_waiting(self) -> None:
        """Requests that wait for something are answered without it, now."""

    def close(self) -> None:
        """End all threads."""


@dataclass(frozen=True)
class Place:
    """`name`: in log lines; `port` 0: any free one, which is logged; `threads`: for requests."""

    name: str
    port: int
    threads: int


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with our settings. All that has threads is made in the worker, after the fork."""

    def __init__(self, place: Place, settings: Settings, start: Callable[[Halt], Running]) -> None:
        """`start` is called in the worker."""
        self._place, self._settings, self._start = place, settings, start
        self.running: Running | None = None
        self.is_misconfigured = mmap.mmap(-1, 1)  # shared with the worker
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.bind}:{self._place.port}",
            "workers": 1,
            "worker_class": Worker,
            "threads": self._place.threads,
            "worker_connections": 4 * self._place.threads,
            "keepalive": 30,
            "graceful_timeout": GRACE_S,
            # A path that holds an account name of 128 characters, percent-encoded.
            "limit_request_line": 8190,
            "accesslog": None,
            "loglevel": "warning",
            "control_socket_disable": True,
            "proc_name": f"postjournal-{self._place.name}",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called by gunicorn, in the worker."""
        self.running = running = self._start(self._halt)
        try:
            monitoring.serve(
                self._settings,
                running.registry,
                lambda: None,
                lambda: running.unavailable_reason,
            )
        except ConfigurationError as error:
            self._halt(error)
        log.info("%s on %s:%d", self._place.name, self._settings.bind, self._place.port)
        return running.app

    def serve(self) -> None:
        """Serve until SIGTERM; exits with 78 when `Halt` was called."""
        try:
            self.run()
        except SystemExit:
            if self.is_misconfigured[0]:
                sys.exit(EXIT_CONFIGURATION)
            raise

    def _halt(self, error: ConfigurationError) -> None:
        """In the worker: end the master too, since another worker would fail in the same way."""
        log.critical("configuration: %s", error)
        self.is_misconfigured[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Releases waiting requests before it waits for requests to end."""

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
            if self.app.running is not None:
                self.app.running.close()
