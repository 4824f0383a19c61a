"""The internal port of a service: `/metrics`, `/livez` and `/readyz`.

Services whose main port is public serve `/metrics` on this port only; for services without another
HTTP server it is the port of their health checks. The replica serves all three on its main port.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterable
from time import monotonic, sleep
from typing import Any

import waitress
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from postjournal.adapters.process.pulse import hung_threads
from postjournal.config.settings import Settings
from postjournal.core.errors import ConfigurationError
from services.process import exit_when_a_thread_hangs

Check = Callable[[], str | None]
"""The reason why the service is not live or not ready; None when it is."""

log = logging.getLogger(__name__)

PORT_TIMEOUT_S, RETRY_S = 15.0, 0.2
"""The worker of a killed server holds the port until it detects that, and without Kafka for some
seconds more. A service that failed at once would not start after a kill."""


def process_registry() -> CollectorRegistry:
    """Return a registry with the process's CPU time, memory, open files and garbage collections."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def serve(
    settings: Settings,
    registry: CollectorRegistry,
    live: Check,
    ready: Check,
    timeout_s: float = PORT_TIMEOUT_S,
) -> None:
    """Serve at POSTJOURNAL_METRICS_PORT in daemon threads; 0: serve nothing.

    Also watches the process's threads from now on. `live` and `ready` are called by the server's
    threads for each request. Raises `ConfigurationError` when the port is still in use after
    `timeout_s` seconds.
    """
    exit_when_a_thread_hangs()
    port = settings.metrics_port
    if not port:
        return
    app = make_app(registry, lambda: live() or hung_threads(), ready)
    server = _listen(app, settings.bind, port, monotonic() + timeout_s)
    threading.Thread(target=server.run, daemon=True, name="monitoring").start()
    log.info("metrics on %s:%d", settings.bind, port)


def _listen(app: Callable[..., Any], host: str, port: int, deadline_s: float) -> Any:
    """Return a server that listens. `deadline_s`: on the monotonic clock."""
    while True:
        try:
            return waitress.create_server(app, host=host, port=port, threads=2)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or monotonic() >= deadline_s:
                raise ConfigurationError(f"POSTJOURNAL_METRICS_PORT={port}: {error}") from error
        sleep(RETRY_S)


def make_app(registry: CollectorRegistry, live: Check, ready: Check) -> Callable[..., Any]:
    """Return a WSGI application with `/metrics`, `/livez` and `/readyz`.

    The checks answer with 200, or with 503 and the reason as text.
    """
    metrics: Callable[..., Any] = make_wsgi_app(registry)
    checks = {"/livez": live, "/readyz": ready}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start_response)
            return found
        if path not in checks:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found; use /metrics, /livez or /readyz\n"]
        reason = checks[path]()
        status = "503 Service Unavailable" if reason else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{reason or 'yes'}\n".encode()]

    return app
