"""Wires a replica's snapshots to the object store, and checks the store at the start."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Any

from postjournal.adapters.kafka.journal_probe import JournalProbe
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.adapters.snapshots.catalogue import SnapshotStore
from postjournal.adapters.snapshots.manager import Restorer, SnapshotManager, Stores
from postjournal.adapters.snapshots.object_store import INTERACTIVE_TIMEOUT_S, ObjectStore
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings, StoreSettings
from postjournal.core.application import Application
from postjournal.core.errors import StoreUnavailable, StoreUnusable
from postjournal.core.reader import Bound
from postjournal.core.sharding import ShardPlace
from postjournal.history.bounds import parse_bound
from postjournal.recovery import codec as snapshot_codec

log = logging.getLogger(__name__)

CHECK_RETRY_S = 5.0


def open_stores(settings: StoreSettings | None, namespace: str) -> Stores | None:
    """Return the snapshot store, or None when no store is configured.

    Raises `StoreUnusable` for an invalid URL.
    """
    if settings is None:
        return None
    return Stores(
        background=SnapshotStore(ObjectStore(settings), namespace),
        interactive=SnapshotStore(ObjectStore(settings, INTERACTIVE_TIMEOUT_S), namespace),
    )


def check_store(settings: StoreSettings | None, namespace: str) -> None:
    """Check the snapshot store in the background, and log what is wrong with it.

    Nothing waits for it: a replica works without a store as long as the journal is complete.
    """
    stores = open_stores(settings, namespace)
    if stores is None:
        log.warning("POSTJOURNAL_SNAPSHOT_URL is not set: reading the whole journal at each start")
        return
    store = stores.interactive
    threading.Thread(target=_check, args=(store,), daemon=True, name="store-check").start()


def _check(store: SnapshotStore) -> None:
    """Retry until the check succeeds; the same reason is logged once."""
    logged = ""
    while True:
        try:
            store.check()
        except (StoreUnusable, StoreUnavailable) as error:
            if str(error) != logged:
                logged = str(error)
                log.error("snapshot store: %s; retrying until it works", logged)
            time.sleep(CHECK_RETRY_S)
        else:
            log.info("snapshots are kept in %s", store.url)
            return


def bound_of(settings: Settings) -> Bound:
    """Return where a reader stops; other replicas have no bound. Raises `ConfigurationError`."""
    until = settings.reader_until
    return parse_bound(until) if settings.reader and until else Bound()


def make_snapshots(
    settings: Settings,
    topics: Topics,
    application: Application[Any, Any, Any],
    shard: int,
    *,
    stores: Stores | None,
    wakeup: Wakeup,
) -> SnapshotManager:
    """Return the `Snapshots` port of one shard.

    `stores` None: it takes and restores no snapshots. A reader with a bound restores no snapshot
    beyond that bound.
    """
    load = partial(
        snapshot_codec.restore,
        application=application,
        place=ShardPlace(shard, settings.shards),
        dedupe_window=settings.dedupe_window,
    )
    open_probe = partial(JournalProbe, settings.kafka, topics.journal, shard)
    restorer = Restorer(open_probe, load, bound_of(settings).fits)
    return SnapshotManager(shard, settings.replica, stores, restorer, wakeup)
