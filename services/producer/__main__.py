"""`python -m services.producer`: the HTTP gateway on gunicorn.

One worker process, since the requests that wait for results and the metrics are in its memory;
threads, since most requests wait for Kafka or a replica.
"""

from __future__ import annotations

from functools import partial

from postjournal.app import load_application
from postjournal.config.settings import GATEWAY_PORT, Settings
from services.process import run
from services.producer.kafka_results import MAX_WAITING
from services.producer.wiring import start
from services.server import Server, ServerOptions

THREADS = MAX_WAITING + 56
"""Requests that wait for results never occupy all threads."""


def main() -> None:
    """Serve until SIGTERM. Raises `ConfigurationError`."""
    settings = Settings.from_environment()
    load_application(settings.app)  # reports a wrong setting before there are processes
    options = ServerOptions("gateway", GATEWAY_PORT.read(), THREADS)
    Server(options, settings, partial(start, settings)).serve()


if __name__ == "__main__":
    run(main)
