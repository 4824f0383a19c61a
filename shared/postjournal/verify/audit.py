"""Audits a whole system, one shard after the other."""

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
from postjournal.verify.shard import OnProgress, audit_shard

OnShardProgress = Callable[[int, int, int, int], None]
"""Called with the shard, the next journal offset, the journal's end and the shard's commands."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The system to audit.

    `bootstrap`: host:port of Kafka; `application`: package.module:Class; `dedupe_window`: the
    replicas' setting, in commands; `store`: where the snapshots are, None: audit no snapshots.
    """

    kafka: KafkaAccess
    namespace: str
    application: str
    dedupe_window: int
    store: StoreSettings | None = None


def ignore_shard_progress(shard: int, next_offset: int, end: int, commands: int) -> None:
    """Do nothing: the default of `audit`."""
    del shard, next_offset, end, commands


def audit(
    target: Target,
    shards: Sequence[int] = (),
    on_progress: OnShardProgress = ignore_shard_progress,
) -> Report:
    """Audit `shards`, or all shards when it is empty, up to where their topics end now.

    Broken rules are findings in the report. Raises `ConfigurationError` for a topic, shard or
    application that does not exist, `JournalUnavailable` and `StoreUnavailable` when Kafka or the
    store does not answer, and `RecordsMissing` when the journal's beginning is deleted and no
    snapshot replaces it.
    """
    application: Application[Any, Any, Any] = load_application(target.application)
    store = ObjectStore(target.store, INTERACTIVE_TIMEOUT_S) if target.store else None
    source = AuditSource(target.kafka, target.namespace, application, store)
    with closing(source):
        count = source.shards()
        unknown = [shard for shard in shards if shard >= count]
        if unknown:
            raise ConfigurationError(
                f"shard {unknown[0]} does not exist: the journal has {count} shards, "
                f"numbered from 0 to {count - 1}"
            )
        started_s = time.monotonic()
        reports = []
        for shard in shards or range(count):
            audit_input = source.audit_input(shard, count)
            progress = _progress_of(shard, audit_input.journal.end, on_progress)
            reports.append(audit_shard(application, audit_input, target.dedupe_window, progress))
        seconds = time.monotonic() - started_s
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


def _progress_of(shard: int, end: int, on_progress: OnShardProgress) -> OnProgress:
    return lambda next_offset, commands: on_progress(shard, next_offset, end, commands)
