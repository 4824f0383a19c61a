"""Serves a service with gunicorn: one worker process, which has all threads and Kafka clients."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
"""The time for requests to end after SIGTERM: process managers wait longer, and requests that were
released from waiting need less."""

OnFatal = Callable[[ConfigurationError], None]
"""Called by any thread with a configuration error; makes the process exit with code 78."""


class Closable(Protocol):
    """A part of a service that has threads."""

    def close(self) -> None:
        """End the threads; return when they have ended."""


class Running(Protocol):
    """A service that runs in the worker process."""

    @property
    def app(self) -> Flask:
        """The HTTP interface of the service."""

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics, which are served on another port because this one may be public."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why the service cannot work now; None when it can."""

    def release_waiting(self) -> None:
        """Answer the requests that are waiting, without what they wait for."""

    def close(self) -> None:
        """Stop the service: end all its threads."""


def close_all(*parts: Closable) -> None:
    """Close all parts at the same time: without Kafka, each may take two seconds."""
    with ThreadPoolExecutor(len(parts)) as pool:
        for closed in [pool.submit(part.close) for part in parts]:
            closed.result()


@dataclass(frozen=True)
class ServerOptions:
    """`name`: in log lines; `port`: to listen on; `threads`: for requests."""

    name: str
    port: int
    threads: int


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with the settings of Postjournal."""

    def __init__(
        self, options: ServerOptions, settings: Settings, start: Callable[[OnFatal], Running]
    ) -> None:
        """`start` is called in the worker: what has threads must be created after the fork."""
        self._options, self._settings, self._start = options, settings, start
        self.running: Running | None = None
        self.is_misconfigured = mmap.mmap(-1, 1)  # shared with the worker
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": f"{self._settings.bind}:{self._options.port}",
            "workers": 1,
            "worker_class": Worker,
            "threads": self._options.threads,
            "worker_connections": 4 * self._options.threads,
            "keepalive": 30,
            "graceful_timeout": GRACE_S,
            # For a path with an account name of 128 characters, percent-encoded.
            "limit_request_line": 8190,
            "accesslog": None,
            "loglevel": "warning",
            "control_socket_disable": True,
            "proc_name": f"postjournal-{self._options.name}",
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called by gunicorn, in the worker."""
        self.running = running = self._start(self._exit_misconfigured)
        try:
            monitoring.serve(
                self._settings,
                running.registry,
                lambda: None,
                lambda: running.unavailable_reason,
            )
        except ConfigurationError as error:
            self._exit_misconfigured(error)
        log.info("%s on %s:%d", self._options.name, self._settings.bind, self._options.port)
        return running.app

    def serve(self) -> None:
        """Serve until SIGTERM; exits with code 78 after a call of `OnFatal`."""
        try:
            self.run()
        except SystemExit:
            if self.is_misconfigured[0]:
                sys.exit(EXIT_CONFIGURATION)
            raise

    def _exit_misconfigured(self, error: ConfigurationError) -> None:
        """In the worker: end the master as well, because another worker would fail too."""
        log.critical("configuration: %s", error)
        self.is_misconfigured[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Releases waiting requests before it waits for requests to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by gunicorn at SIGTERM."""
        if self.app.running is not None:
            self.app.running.release_waiting()
        super().handle_exit(sig, frame)

    def run(self) -> None:
        try:
            super().run()
        finally:
            if self.app.running is not None:
                self.app.running.close()
