"""The monitoring port of a service: `/metrics`, `/livez` and `/readyz`, for operators only.

Services whose main port may be public serve `/metrics` here and not there; services without
another HTTP interface are monitored here. The replica serves these paths at its own port.
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

from postjournal.config.settings import Settings
from postjournal.core.errors import ConfigurationError

Check = Callable[[], str | None]
"""The reason why the service is not live or not ready; None when it is."""

log = logging.getLogger(__name__)

PORT_TIMEOUT_S, RETRY_S = 15.0, 0.2
"""The worker of a killed server holds the port until it notices the loss and, without Kafka, for
some seconds more. Only a port that is taken for longer is a wrong configuration."""


def process_registry() -> CollectorRegistry:
    """A registry with the metrics of the process: CPU, memory, open files, garbage collections."""
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
    port_timeout_s: float = PORT_TIMEOUT_S,
) -> None:
    """Serve at POSTJOURNAL_METRICS_PORT, in threads, until the process ends.

    Does nothing when that is 0. Raises `ConfigurationError` when the port stays taken for
    `port_timeout_s` seconds.
    """
    port = settings.metrics_port
    if not port:
        return
    app = make_app(registry, live, ready)
    server = _listen(app, settings.bind, port, monotonic() + port_timeout_s)
    threading.Thread(target=server.run, daemon=True, name="monitoring").start()
    log.info("metrics on %s:%d", settings.bind, port)


def _listen(app: Callable[..., Any], host: str, port: int, deadline_s: float) -> Any:
    """Create a server that listens; `deadline_s`: of the monotonic clock."""
    while True:
        try:
            return waitress.create_server(app, host=host, port=port, threads=2)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or monotonic() >= deadline_s:
                raise ConfigurationError(f"POSTJOURNAL_METRICS_PORT={port}: {error}") from error
        sleep(RETRY_S)


def make_app(registry: CollectorRegistry, live: Check, ready: Check) -> Callable[..., Any]:
    """The WSGI application of the monitoring port.

    GET /metrics: the Prometheus text format; GET /livez, /readyz: 200 "yes", or 503 with the
    reason, as plain text; other paths: 404.
    """
    metrics: Callable[..., Any] = make_wsgi_app(registry)
    checks = {"/livez": live, "/readyz": ready}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            body: Iterable[bytes] = metrics(environ, start_response)
            return body
        if path not in checks:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found: this port serves /metrics, /livez and /readyz\n"]
        reason = checks[path]()
        status = "503 Service Unavailable" if reason else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{reason or 'yes'}\n".encode()]

    return app
