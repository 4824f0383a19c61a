"""`python -m services.replica`: a replica of every shard, until SIGTERM."""

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
"""More than the usual number of reads that wait for a state, so that `/livez` is answered too."""

STOP_S = 6.0
"""The time for all shards together to resign and stop."""


def main() -> int:
    """Run the replica; return the exit code.

    0 after SIGTERM; 78 for a configuration error, which a restart does not fix; otherwise 1.
    """
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
    # Forks a process, so it comes before any thread.
    tripwire_port = hold_tripwire(settings.bind, settings.tripwire_port)
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
    log.info("%s: %d shard(s), HTTP at %s", settings.replica, len(shards), addresses.http)
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
    """Make all shards resign and stop; return 1 if one of them did not stop cleanly."""
    log.info("stopping %d shard(s)", len(shards))
    for shard in shards:
        shard.inbox.ask_to_stop()
    deadline = monotonic() + STOP_S
    clean = [shard.join(max(deadline - monotonic(), 0.1)) for shard in shards]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
