"""`python -m services.replica`: wire everything, run until SIGTERM."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from time import monotonic
from types import FrameType

import waitress

from postjournal.adapters.kafka_admin import ensure_topics, wait_for_kafka
from postjournal.adapters.tripwire import TripwireServer
from postjournal.app import load_application
from postjournal.core.errors import ConfigurationError
from postjournal.settings import Settings
from postjournal.topics import Topics
from services.replica.http import make_app
from services.replica.shard import Addresses, ShardRunner

log = logging.getLogger("replica")

EX_CONFIG = 78  # sysexits.h: restarting will not help
STOP_S = 6.0


def main() -> int:
    """Returns the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # The state is one large, long-lived heap: look through it seldom (see docs of gc.freeze).
    gc.set_threshold(50_000, 20, 100)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: _on_signal(stop, _frame))
    try:
        return _serve(Settings.from_environment(), stop)
    except (ConfigurationError, OSError) as error:
        log.critical("%s", error)
        return EX_CONFIG


def _on_signal(stop: threading.Event, frame: FrameType | None) -> None:
    del frame
    stop.set()


def _serve(settings: Settings, stop: threading.Event) -> int:
    application = load_application(settings.app)
    topics = Topics.of(settings.namespace, application.sources, application.sinks)
    ensure_topics(wait_for_kafka(settings.bootstrap), topics, settings.shards, settings.replication)
    tripwire = TripwireServer(settings.bind, settings.tripwire_port)
    addresses = Addresses(
        http=f"{settings.advertise}:{settings.http_port}",
        tripwire=f"{settings.advertise}:{tripwire.port}",
    )
    shards = [
        ShardRunner(settings, topics, application, shard, addresses)
        for shard in range(settings.shards)
    ]
    _serve_http(settings, shards)
    for shard in shards:
        shard.start()
    log.info("%s: %d shard(s), http %s", settings.replica, len(shards), addresses.http)
    stop.wait()
    return _stop(shards)


def _serve_http(settings: Settings, shards: list[ShardRunner]) -> None:
    app = make_app(settings.replica, shards)
    server = waitress.create_server(app, host=settings.bind, port=settings.http_port, threads=4)
    threading.Thread(target=server.run, daemon=True, name="http").start()


def _stop(shards: list[ShardRunner]) -> int:
    """Resign everywhere at once, then wait."""
    log.info("stopping")
    for shard in shards:
        shard.inbox.ask_to_stop()
    deadline = monotonic() + STOP_S
    clean = [shard.join(max(deadline - monotonic(), 0.1)) for shard in shards]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
