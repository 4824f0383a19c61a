"""The audit of a whole system: shard after shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import msgspec

from postjournal.adapters.snapshots.object_store import INTERACTIVE_TIMEOUT_S, ObjectStore
from postjournal.app import Application, load_application
from postjournal.config.settings import KafkaAccess, StoreSettings
from postjournal.core.errors import ConfigurationError
from postjournal.verify.audit_source import AuditSource
from postjournal.verify.report import Report
from postjournal.verify.shard import audit_shard

OnShard = Callable[[int, int, int, int], None]
"""Called with the shard, the next journal offset, the journal's end and the shard's commands."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be audited. `application`: package.module:Class; `store`: of the snapshots, None
    when they are not to be looked at."""

    kafka: KafkaAccess
    namespace: str
    application: str
    dedupe_window: int
    store: StoreSettings | None = None


def ignore_shard(shard: int, next_offset: int, end: int, commands: int) -> None:
    """For callers that do not show it."""
    del shard, next_offset, end, commands


def audit(
    target: Target, shards: Sequence[int] = (), on_progress: OnShard = ignore_shard
) -> Report:
    """Audit `shards`, or all of them. Raises `PostjournalError` when that cannot be done."""
    application: Application[Any, Any, Any] = load_application(target.application)
    store = ObjectStore(target.store, INTERACTIVE_TIMEOUT_S) if target.store else None
    surveyor = AuditSource(target.kafka, target.namespace, application, store)
    with closing(surveyor):
        count = surveyor.shards()
        unknown = [shard for shard in shards if shard >= count]
        if unknown:
            raise ConfigurationError(f"there is no shard {unknown[0]}: there are {count}, from 0")
        begun_s = time.monotonic()
        reports = []
        for shard in shards or range(count):
            audit_input = surveyor.audit_input(shard, count)
            end = audit_input.journal.end

            def told(next_offset: int, commands: int, shard: int = shard, end: int = end) -> None:
                on_progress(shard, next_offset, end, commands)

            reports.append(audit_shard(application, audit_input, target.dedupe_window, told))
        seconds = time.monotonic() - begun_s
    commands = sum(report.commands for report in reports)
    return Report(
        sound=all(report.sound for report in reports),
        bootstrap=target.kafka.bootstrap,
        namespace=target.namespace,
        application=target.application,
        dedupe_window=target.dedupe_window,
        store=target.store.url if target.store else None,
        commands=commands,
        seconds=round(seconds, 3),
        commands_per_second=round(commands / max(seconds, 1e-3), 1),
        shards=reports,
    )
