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
from services.server import Place, Server

THREADS = MAX_WAITING + 56
"""However many requests wait for results, others still find a thread."""


def main() -> None:
    """Until SIGTERM. Raises `ConfigurationError`."""
    settings = Settings.from_environment()
    load_application(settings.app)  # a wrong one is told here, before there are processes
    port = GATEWAY_PORT.read()
    Server(Place("gateway", port, THREADS), settings, partial(start, settings)).serve()


if __name__ == "__main__":
    run(main)
