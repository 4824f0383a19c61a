"""Which snapshots there are, and what is wrong with them."""

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
    check,
    load_state,
    open_content,
)


class SnapshotAudit:
    """Compares each snapshot when the journal has been read up to its offset."""

    def __init__(
        self,
        application: Application[Any, Any, Any],
        kept: Sequence[StoredSnapshot],
        unreadable: Mapping[str, str],
        findings: Findings,
    ) -> None:
        """`unreadable`: name of a manifest → why it counts for nothing."""
        self._application, self._findings = application, findings
        self._waiting = sorted(kept, key=lambda each: each.manifest.offset, reverse=True)
        self.compared: list[str] = []
        for name, why in unreadable.items():
            findings.add(Rule.SNAPSHOT_READABLE, name, None, why)

    @property
    def next_offset(self) -> int | None:
        """Where the next one stands; None when all are compared."""
        return self._waiting[-1].manifest.offset if self._waiting else None

    def compare(self, expected: ExpectedState) -> None:
        """All that stand at the expected's offset."""
        while self.next_offset == expected.header.offset:
            self._compare(self._waiting.pop(), expected)

    def _compare(self, kept: StoredSnapshot, expected: ExpectedState) -> None:
        try:
            difference = check(kept, self._application, expected)
        except SnapshotDamaged as broken:
            self._findings.add(Rule.SNAPSHOT_READABLE, kept.path, None, str(broken))
        except FileNotFoundError:
            return
        else:
            if difference:
                self._findings.add(Rule.SNAPSHOT_CONTENT, kept.path, None, difference)
            self.compared.append(kept.manifest.id)

    def start(self, first_offset: int, place: str) -> tuple[StoredSnapshot, Content, Any]:
        """The oldest snapshot that the journal follows from `first_offset`, and its state.

        Raises `RecordsMissing` when there is none.
        """
        while self._waiting:
            kept = self._waiting.pop()
            if kept.manifest.offset < first_offset - 1:
                continue  # what lies between is deleted
            try:
                content = open_content(kept, self._application)
                return kept, content, load_state(self._application, content)
            except SnapshotDamaged as broken:
                self._findings.add(Rule.SNAPSHOT_READABLE, kept.path, None, str(broken))
            except FileNotFoundError:
                continue
        raise RecordsMissing(
            f"{place} begins at offset {first_offset}, and there is no sound snapshot from which "
            "it could be followed: what was decided before cannot be known, so nothing after it "
            "can be verified"
        )

    def finish(self, end: int) -> None:
        """The journal is read up to `end`."""
        for kept in self._waiting:
            text = f"it is of offset {kept.manifest.offset}; the journal ends at {end}"
            self._findings.add(Rule.SNAPSHOT_CONTENT, kept.path, None, text)
