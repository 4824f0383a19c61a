"""Compares the batches of entries with the source records that they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from postjournal.core.application import Context
from postjournal.core.records import Entry, Outcome
from postjournal.verify.partition import Cursor, Partition, Row
from postjournal.verify.replay import Replay, SourceCommand
from postjournal.verify.rules import Findings, Rule

Progress = tuple[int, ...]
"""For each source, how many of its next records an entry's first items have decided."""


class SourceRow(NamedTuple):
    """A source record and the command in it."""

    row: Row
    command: SourceCommand[Any]


class Step(NamedTuple):
    """One way to take one more source record: the progress after it, and the record."""

    after: Progress
    topic: str
    record: SourceRow


class Decisions:
    """Reads every source in step with the journal and decides each command again.

    `unchecked`: how many commands were applied without a check, because retention has deleted
    their source records.
    """

    def __init__(
        self,
        journal_topic: str,
        sources: Mapping[str, Partition],
        replay: Replay[Any, Any, Any],
        findings: Findings,
        starts: Mapping[str, int],
    ) -> None:
        """`sources`: full topic name → partition; `starts`: topic → first offset, 0 by default."""
        self._topic, self._replay, self._findings = journal_topic, replay, findings
        self._sources = {
            topic: Cursor(partition, starts.get(topic, 0)) for topic, partition in sources.items()
        }
        self.unchecked = 0

    @property
    def positions(self) -> dict[str, int]:
        """Topic → offset after the last record that the journal has decided."""
        return {topic: cursor.next_offset for topic, cursor in self._sources.items()}

    def check_entry(self, offset: int, entry: Entry[Any], context: Context) -> list[Outcome[Any]]:
        """Check the entry at `offset` and apply it.

        Returns one outcome per item, as the sinks receive it. Raises `ApplicationFaulty`.
        """
        if self._may_be_deleted(entry):
            return self._apply_unchecked(entry)
        moved = [topic for topic, end in entry.sources.items() if self._is_ahead(topic, end)]
        if len(moved) == 1 and self._ends_at(moved[0], entry):
            outcomes = self._check_one_source(offset, entry, moved[0], context)
        else:
            outcomes = self._check_mixed(offset, entry, context)
        self._check_offsets(offset, entry)
        return outcomes

    def _ends_at(self, topic: str, entry: Entry[Any]) -> bool:
        """Whether the source's next records, one for each item, end at the entry's offset."""
        rows = self._sources[topic].ahead(len(entry.batch))
        return len(rows) == len(entry.batch) and rows[-1][0] + 1 == entry.sources[topic]

    def _is_ahead(self, topic: str, end: int) -> bool:
        cursor = self._sources.get(topic)
        return cursor is not None and end > cursor.next_offset

    # --- deleted source records -------------------------------------------------------------------

    def _may_be_deleted(self, entry: Entry[Any]) -> bool:
        """Whether retention has deleted any record that the entry may have decided."""
        return any(
            self._is_ahead(topic, end)
            and self._sources[topic].next_offset < self._sources[topic].partition.first
            for topic, end in entry.sources.items()
        )

    def _apply_unchecked(self, entry: Entry[Any]) -> list[Outcome[Any]]:
        self.unchecked += len(entry.batch)
        for topic, end in entry.sources.items():
            if topic in self._sources:
                self._sources[topic].skip_to(end)
        return [self._replay.apply(item) for item in entry.batch]

    # --- one source: the usual case ---------------------------------------------------------------

    def _check_one_source(
        self, offset: int, entry: Entry[Any], topic: str, context: Context
    ) -> list[Outcome[Any]]:
        cursor, replay = self._sources[topic], self._replay
        rows = cursor.ahead(len(entry.batch))
        read, expected, apply = replay.read, replay.expected, replay.apply
        outcomes = []
        for item, row in zip(entry.batch, rows, strict=True):
            command = read(topic, row)
            wanted = expected(topic, row, command, context)
            if item != wanted:
                self._compare(offset, item, topic, row, wanted)
            outcomes.append(apply(item))
        cursor.advance(len(rows))
        return outcomes

    def _compare(
        self, offset: int, item: Outcome[Any], topic: str, row: Row, wanted: Outcome[Any]
    ) -> None:
        if self._replay.same(item, wanted):
            return
        source = f"{topic}@{row[0]}"
        if item.id != wanted.id:
            rule = Rule.SOURCE_ORDER
            text = f"the batch has command {item.id} where {source} holds command {wanted.id}"
        elif wanted.replayed:
            rule, text = Rule.REPEAT, f"command {item.id} of {source} is decided a second time"
        elif item.replayed:
            rule = Rule.REPEAT
            text = (
                f"command {item.id} of {source} is marked as a repeat, but its id is not in the "
                "dedupe window"
            )
        else:
            rule = Rule.DECISION
            text = (
                f"command {item.id} of {source} became {_describe(item)}, expected "
                f"{_describe(wanted)}"
            )
        self._findings.add(rule, self._topic, offset, text)

    # --- several sources in one entry -------------------------------------------------------------

    def _check_mixed(self, offset: int, entry: Entry[Any], context: Context) -> list[Outcome[Any]]:
        """Match the items with records of several sources.

        The journal does not record in which order a leader took records from its sources, so every
        order that explains the items so far is followed: nearly always one, because ids differ.
        State and window depend only on the items, not on the order.
        """
        window = self._window(entry)
        topics = list(window)
        candidates: set[Progress] = {(0,) * len(topics)}
        outcomes = []
        for item in entry.batch:
            steps = _steps(candidates, topics, window)
            matching = {
                step.after
                for step in steps
                if step.record.command.id == item.id
                and self._replay.same(item, self._expected(step, context))
            }
            candidates = (
                matching or self._report_unmatched(offset, item, steps, context) or candidates
            )
            outcomes.append(self._replay.apply(item))
        for topic, count in zip(topics, max(candidates), strict=True):
            self._sources[topic].advance(count)
        return outcomes

    def _window(self, entry: Entry[Any]) -> dict[str, list[SourceRow]]:
        """For each source, the records that the entry may have decided.

        These are the records before the entry's own offsets, unless their number shows that those
        offsets are wrong.
        """
        count = len(entry.batch)
        rows = {topic: self._sources[topic].ahead(count) for topic in sorted(self._sources)}
        before_end = {
            topic: [row for row in topic_rows if row[0] < entry.sources.get(topic, 0)]
            for topic, topic_rows in rows.items()
        }
        offsets_fit = sum(map(len, before_end.values())) == count
        return {
            topic: [SourceRow(row, self._replay.read(topic, row)) for row in topic_rows]
            for topic, topic_rows in (before_end if offsets_fit else rows).items()
        }

    def _expected(self, step: Step, context: Context) -> Outcome[Any]:
        row, command = step.record
        return self._replay.expected(step.topic, row, command, context)

    def _report_unmatched(
        self, offset: int, item: Outcome[Any], steps: list[Step], context: Context
    ) -> set[Progress]:
        """Report an item that no record explains; returns the progress to continue from.

        The item is compared with the record that has its id, or else with the first record.
        """
        if not steps:
            text = f"command {item.id} has no source record: the source topics end before it"
            self._findings.add(Rule.SOURCE_PRESENT, self._topic, offset, text)
            return set()
        same_id = [step for step in steps if step.record.command.id == item.id]
        step = (same_id or steps)[0]
        self._compare(offset, item, step.topic, step.record.row, self._expected(step, context))
        return {step.after}

    def _check_offsets(self, offset: int, entry: Entry[Any]) -> None:
        actual = {topic: end for topic, end in self.positions.items() if end}
        claimed = {topic: end for topic, end in entry.sources.items() if end}
        if actual != claimed:
            text = f"`sources` is {claimed}, but the {len(entry.batch)} commands end at {actual}"
            self._findings.add(Rule.SOURCE_OFFSETS, self._topic, offset, text)


def _steps(
    candidates: set[Progress], topics: list[str], window: Mapping[str, Sequence[SourceRow]]
) -> list[Step]:
    found = []
    for progress in sorted(candidates):
        for i, topic in enumerate(topics):
            if progress[i] < len(window[topic]):
                after = (*progress[:i], progress[i] + 1, *progress[i + 1 :])
                found.append(Step(after, topic, window[topic][progress[i]]))
    return found


def _describe(outcome: Outcome[Any]) -> str:
    if outcome.rejected is not None:
        return f"rejected ({outcome.rejected})"
    return f"{outcome.type} {outcome.events}"
