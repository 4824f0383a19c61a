"""What replicas have said of themselves, held against the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from postjournal.cluster.status import ReplicaStatus
from postjournal.verify.rules import Findings, Rule


class ReportedDigest(NamedTuple):
    """A status record and where it stands."""

    offset: int
    status: ReplicaStatus


class ReplicaCheck:
    """Each digest must be the journal's at its seq, and each seq the end of an entry.

    `said`: read up to the status topic's end as it was before the journal's end was asked for;
    so the journal must hold whatever they tell. Only distinct ones are kept: bounded by how many
    are given.
    """

    def __init__(
        self, topic: str, said: Iterable[ReportedDigest], findings: Findings, start_seq: int = 0
    ) -> None:
        """`topic`: the status topic; what was said of seqs below `start_seq` cannot be checked."""
        self._topic, self._findings = topic, findings
        self._waiting: dict[int, dict[tuple[str, str], int]] = {}
        self.agreed: Counter[str] = Counter()
        for offset, status in said:
            if status.seq < start_seq:
                continue
            told = self._waiting.setdefault(status.seq, {})
            told.setdefault((status.replica, status.digest), offset)

    def reached(self, seq: int, digest: str) -> None:
        """The journal's digest before its entry `seq`."""
        for (replica, told), offset in self._waiting.pop(seq, {}).items():
            if told == digest:
                self.agreed[replica] += 1
            else:
                text = f"{replica} had digest {told} at seq {seq}, the journal's is {digest}"
                self._findings.add(Rule.REPLICA_DIGEST, self._topic, offset, text)

    def finish(self, next_seq: int) -> int:
        """The journal is read to its end; how many replicas were beyond it."""
        beyond = 0
        for seq, told in sorted(self._waiting.items()):
            beyond += len(told) if seq > next_seq else 0
            why = f"the journal ends at {next_seq}" if seq > next_seq else "no entry ends there"
            for (replica, _), offset in told.items():
                text = f"{replica} was at seq {seq}: {why}"
                self._findings.add(Rule.REPLICA_DIGEST, self._topic, offset, text)
        return beyond
