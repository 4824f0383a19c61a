"""Compares a shard's stored snapshots with the journal as the audit reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from postjournal.core.application import Application
from postjournal.core.errors import RecordsMissing, SnapshotDamaged
from postjournal.verify.rules import Findings, Rule
from postjournal.verify.snapshots import (
    Content,
    ExpectedState,
    StoredSnapshot,
    compare,
    load_state,
    open_content,
)


class SnapshotAudit:
    """Compares each snapshot when the journal has been read up to its offset.

    `compared`: the ids of the snapshots that were compared, in the order of their offsets.
    """

    def __init__(
        self,
        application: Application[Any, Any, Any],
        snapshots: Sequence[StoredSnapshot],
        unreadable_manifests: Mapping[str, str],
        findings: Findings,
    ) -> None:
        """`unreadable_manifests`: name → reason; each is a finding."""
        self._application, self._findings = application, findings
        self._pending = sorted(snapshots, key=lambda s: s.manifest.offset, reverse=True)
        self.compared: list[str] = []
        for name, reason in unreadable_manifests.items():
            findings.add(Rule.SNAPSHOT_READABLE, name, None, reason)

    @property
    def next_offset(self) -> int | None:
        """The offset of the next snapshot to compare; None when all are compared."""
        return self._pending[-1].manifest.offset if self._pending else None

    def compare(self, expected: ExpectedState) -> None:
        """Compare all snapshots of the offset of `expected`."""
        while self.next_offset == expected.header.offset:
            self._compare(self._pending.pop(), expected)

    def _compare(self, snapshot: StoredSnapshot, expected: ExpectedState) -> None:
        try:
            difference = compare(snapshot, self._application, expected)
        except SnapshotDamaged as damage:
            self._findings.add(Rule.SNAPSHOT_READABLE, snapshot.path, None, str(damage))
        except FileNotFoundError:
            return
        else:
            if difference:
                self._findings.add(Rule.SNAPSHOT_CONTENT, snapshot.path, None, difference)
            self.compared.append(snapshot.manifest.id)

    def start(self, first_offset: int, partition: str) -> tuple[StoredSnapshot, Content, Any]:
        """The oldest sound snapshot from which the journal can be read, and its state.

        `first_offset`: the first record that the journal still has; `partition`: topic/shard, for
        the message. Raises `RecordsMissing` when there is no such snapshot.
        """
        while self._pending:
            snapshot = self._pending.pop()
            if snapshot.manifest.offset < first_offset - 1:
                continue  # the records between the snapshot and `first_offset` are deleted
            try:
                content = open_content(snapshot, self._application)
                return snapshot, content, load_state(self._application, content)
            except SnapshotDamaged as damage:
                self._findings.add(Rule.SNAPSHOT_READABLE, snapshot.path, None, str(damage))
            except FileNotFoundError:
                continue
        raise RecordsMissing(
            f"{partition} begins at offset {first_offset}, and no sound snapshot replaces the "
            "deleted records before it: nothing behind them can be verified. Audit with the "
            "snapshot store that has such a snapshot"
        )

    def finish(self, end: int) -> None:
        """Report the snapshots beyond the journal's `end`."""
        for snapshot in self._pending:
            text = f"its offset is {snapshot.manifest.offset}, but the journal ends at {end}"
            self._findings.add(Rule.SNAPSHOT_CONTENT, snapshot.path, None, text)
