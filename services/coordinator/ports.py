"""What the coordinator needs from Kafka. The adapters implement it; tests use fakes."""

from __future__ import annotations

from typing import Protocol

from postjournal.cluster.status import ControlRecord, StatusRecord
from postjournal.core.errors import JournalUnavailable, StoreUnavailable, StoreUnusable

UNAVAILABLE = (JournalUnavailable, StoreUnavailable, StoreUnusable)
"""Kafka or the snapshot store cannot be used now. A retry may succeed, for `StoreUnusable` after
the operator has changed the store."""


class Component(Protocol):
    """A part of the coordinator that may be unable to work."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why it cannot work now; None when it can."""


class Appender(Protocol):
    """Appends to the control or the status topic; see `ControlLog`."""

    def append(self, record: ControlRecord | StatusRecord) -> None:
        """Append `record` and wait for the acknowledgement. Raises `JournalUnavailable`."""


class Trimmer(Protocol):
    """Deletes the beginning of a shard's journal; see `JournalTrimmer`."""

    def trim(self, shard: int, before: int) -> None:
        """Delete the records with offsets below `before`. Raises `JournalUnavailable`."""
