"""`python -m services.replica`: wire everything, run until SIGTERM."""

from __future__ import annotations

import logging
import sys
import threading
from time import monotonic

import waitress

from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.adapters.process.gc_tuning import reduce_gc_frequency
from postjournal.adapters.process.tripwire_holder import hold_tripwire
from postjournal.app import load_application
from postjournal.cluster.topics import Topics
from postjournal.config.settings import API_TOKEN, Settings, StoreSettings
from postjournal.core.errors import ConfigurationError, JournalUnavailable
from services.process import EXIT_CONFIGURATION, configure_logging, stop_on_signal
from services.replica.http import make_app
from services.replica.shard import Addresses, ShardRunner, Shared
from services.replica.snapshots import open_stores

log = logging.getLogger("replica")

HTTP_THREADS = 16
"""Reads that wait for a state to come must not keep `/livez` from its answer."""

STOP_S = 6.0
"""How long all shards together may take to resign and stop."""


def main() -> int:
    """Returns the exit code: 78 when restarting will not help, 1 when it may, 0 when asked to."""
    stop = stop_on_signal()
    try:
        configure_logging()
        return _serve(Settings.from_environment(), stop)
    except ConfigurationError as error:
        log.critical("configuration: %s", error)
        return EXIT_CONFIGURATION
    except (JournalUnavailable, OSError) as error:
        if stop.is_set():
            return 0
        log.critical("cannot start: %s", error)
        return 1


def _serve(settings: Settings, stop: threading.Event) -> int:
    tripwire_port = hold_tripwire(settings.bind, settings.tripwire_port)  # forks: before threads
    application = load_application(settings.app)
    topics = Topics.of(settings.namespace, application.sources, application.sinks)
    kafka = wait_for_kafka(settings.kafka, is_stopping=stop.is_set)
    ensure_topics(kafka, topics, settings.shards, settings.replication, is_stopping=stop.is_set)
    addresses = Addresses(
        http=f"{settings.advertise}:{settings.http_port}",
        tripwire=f"{settings.advertise}:{tripwire_port}",
    )
    stores = open_stores(StoreSettings.from_environment(), settings.namespace)
    shared = Shared(settings, topics, application, addresses, stores)
    shards = [ShardRunner(shared, shard) for shard in range(settings.shards)]
    _serve_http(settings, shards)
    reduce_gc_frequency()
    for shard in shards:
        shard.start()
    log.info("%s: %d shard(s), http %s", settings.replica, len(shards), addresses.http)
    stop.wait()
    return _stop(shards)


def _serve_http(settings: Settings, shards: list[ShardRunner]) -> None:
    token = API_TOKEN.read() or "" if settings.allow_crash else None
    app = make_app(settings.replica, shards, token)
    server = waitress.create_server(
        app, host=settings.bind, port=settings.http_port, threads=HTTP_THREADS
    )
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
