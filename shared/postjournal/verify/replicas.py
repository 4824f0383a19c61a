"""Compares the digests that replicas have reported with the journal's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from postjournal.cluster.status import ReplicaStatus
from postjournal.verify.rules import Findings, Rule


class ReportedDigest(NamedTuple):
    """A status record and its offset in the status topic."""

    offset: int
    status: ReplicaStatus


class ReplicaCheck:
    """Each reported digest must be the journal's at its seq, and each seq the end of an entry.

    The reports are read up to the status topic's end as it was before the journal's end was
    fetched, so the journal must contain everything they refer to. Only distinct reports are kept:
    their number bounds the memory.
    """

    def __init__(
        self,
        topic: str,
        reports: Iterable[ReportedDigest],
        findings: Findings,
        start_seq: int = 0,
    ) -> None:
        """`topic`: the status topic; reports of seqs below `start_seq` cannot be checked."""
        self._topic, self._findings = topic, findings
        self._pending: dict[int, dict[tuple[str, str], int]] = {}
        self.agreed: Counter[str] = Counter()
        for offset, status in reports:
            if status.seq < start_seq:
                continue
            same_seq = self._pending.setdefault(status.seq, {})
            same_seq.setdefault((status.replica, status.digest), offset)

    def reached(self, seq: int, digest: str) -> None:
        """Compare the reports of `seq` with the journal's digest before its entry `seq`."""
        for (replica, reported), offset in self._pending.pop(seq, {}).items():
            if reported == digest:
                self.agreed[replica] += 1
            else:
                text = (
                    f"{replica} reported digest {reported} at seq {seq}; the journal's is {digest}"
                )
                self._findings.add(Rule.REPLICA_DIGEST, self._topic, offset, text)

    def finish(self, next_seq: int) -> int:
        """Report what was not compared when the journal ends at `next_seq`.

        Returns the number of reports beyond that end.
        """
        beyond = 0
        for seq, same_seq in sorted(self._pending.items()):
            beyond += len(same_seq) if seq > next_seq else 0
            why = f"the journal ends at {next_seq}" if seq > next_seq else "no entry ends there"
            for (replica, _), offset in same_seq.items():
                text = f"{replica} reported seq {seq}, but {why}"
                self._findings.add(Rule.REPLICA_DIGEST, self._topic, offset, text)
        return beyond
