"""The batches of entries held against the source records that they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from postjournal.core.application import Context
from postjournal.core.records import Entry, Outcome
from postjournal.verify.partition import Cursor, Partition, Row
from postjournal.verify.replay import Asked, Replay
from postjournal.verify.rules import Findings, Rule

Position = tuple[int, ...]
"""For each source, how many of its next records an entry's first items have decided."""


class Read(NamedTuple):
    """A source record with what it asks."""

    row: Row
    asked: Asked[Any]


class Decisions:
    """Reads every source along with the journal and decides again.

    `unchecked`: commands whose source records retention has deleted; they are applied only.
    """

    def __init__(
        self,
        journal_topic: str,
        sources: Mapping[str, Partition],
        replay: Replay[Any, Any, Any],
        findings: Findings,
        starts: Mapping[str, int],
    ) -> None:
        """`sources`: by full topic name; `starts`: topic → offset to begin at, 0 by default."""
        self._topic, self._replay, self._findings = journal_topic, replay, findings
        self._sources = {
            topic: Cursor(partition, starts.get(topic, 0)) for topic, partition in sources.items()
        }
        self.unchecked = 0

    @property
    def positions(self) -> dict[str, int]:
        """Topic → offset after the last record that the journal has decided."""
        return {topic: cursor.next_offset for topic, cursor in self._sources.items()}

    def take(self, offset: int, entry: Entry[Any], context: Context) -> list[Outcome[Any]]:
        """Check the entry at `offset` and apply it; what the sinks are given for each item."""
        if self._is_deleted(entry):
            return self._trust(entry)
        moved = [t for t, end in entry.sources.items() if self._is_ahead(t, end)]
        if len(moved) == 1 and self._ends_at(moved[0], entry):
            outcomes = self._take_run(offset, entry, moved[0], context)
        else:
            outcomes = self._take_mixed(offset, entry, context)
        self._check_offsets(offset, entry)
        return outcomes

    def _ends_at(self, topic: str, entry: Entry[Any]) -> bool:
        """Whether the source's next records, one for each item, end at the entry's offset."""
        rows = self._sources[topic].ahead(len(entry.batch))
        return len(rows) == len(entry.batch) and rows[-1][0] + 1 == entry.sources[topic]

    def _is_ahead(self, topic: str, end: int) -> bool:
        cursor = self._sources.get(topic)
        return cursor is not None and end > cursor.next_offset

    # --- source records that are gone -------------------------------------------------------------

    def _is_deleted(self, entry: Entry[Any]) -> bool:
        """Whether retention has deleted any record that the entry may have decided."""
        return any(
            self._is_ahead(topic, end)
            and self._sources[topic].next_offset < self._sources[topic].partition.first
            for topic, end in entry.sources.items()
        )

    def _trust(self, entry: Entry[Any]) -> list[Outcome[Any]]:
        self.unchecked += len(entry.batch)
        for topic, end in entry.sources.items():
            if topic in self._sources:
                self._sources[topic].skip_to(end)
        return [self._replay.apply(item) for item in entry.batch]

    # --- one source: the usual case ---------------------------------------------------------------

    def _take_run(
        self, offset: int, entry: Entry[Any], topic: str, context: Context
    ) -> list[Outcome[Any]]:
        cursor, replay = self._sources[topic], self._replay
        rows = cursor.ahead(len(entry.batch))
        read, expected, apply = replay.read, replay.expected, replay.apply
        outcomes = []
        for item, row in zip(entry.batch, rows, strict=True):
            asked = read(topic, row)
            wanted = expected(topic, row, asked, context)
            if item != wanted:
                self._compare(offset, item, topic, row, wanted)
            outcomes.append(apply(item))
        cursor.pass_by(len(rows))
        return outcomes

    def _compare(
        self, offset: int, item: Outcome[Any], topic: str, row: Row, wanted: Outcome[Any]
    ) -> None:
        if self._replay.same(item, wanted):
            return
        place = f"{topic}@{row[0]}"
        if item.id != wanted.id:
            rule, text = Rule.SOURCE_ORDER, f"command {item.id} stands where {place} is {wanted.id}"
        elif wanted.replayed:
            rule, text = Rule.REPEAT, f"command {item.id} of {place} is decided a second time"
        elif item.replayed:
            rule = Rule.REPEAT
            text = f"command {item.id} of {place} is no repeat: it is not in the dedupe window"
        else:
            rule = Rule.DECISION
            text = f"command {item.id} of {place} became {_told(item)}, not {_told(wanted)}"
        self._findings.add(rule, self._topic, offset, text)

    # --- several sources in one entry -------------------------------------------------------------

    def _take_mixed(self, offset: int, entry: Entry[Any], context: Context) -> list[Outcome[Any]]:
        """The order in which a leader took from its sources is not in the journal.

        So every order that explains the items so far is followed: nearly always one, since ids
        differ. State and window depend on the items alone, not on the order.
        """
        window = self._window(entry)
        topics = list(window)
        positions: set[Position] = {(0,) * len(topics)}
        outcomes = []
        for item in entry.batch:
            steps = _steps(positions, topics, window)
            fitting = {
                after
                for after, topic, read in steps
                if read.asked.id == item.id
                and self._replay.same(item, self._expected(topic, read, context))
            }
            positions = fitting or self._unexplained(offset, item, steps, context) or positions
            outcomes.append(self._replay.apply(item))
        for topic, count in zip(topics, max(positions), strict=True):
            self._sources[topic].pass_by(count)
        return outcomes

    def _window(self, entry: Entry[Any]) -> dict[str, list[Read]]:
        """For each source the records that the entry may have decided.

        They lie before the entry's own offsets, unless those cannot be right.
        """
        rows = {t: self._sources[t].ahead(len(entry.batch)) for t in sorted(self._sources)}
        named = {
            t: [row for row in each if row[0] < entry.sources.get(t, 0)] for t, each in rows.items()
        }
        fits = sum(map(len, named.values())) == len(entry.batch)
        return {
            topic: [Read(row, self._replay.read(topic, row)) for row in each]
            for topic, each in (named if fits else rows).items()
        }

    def _expected(self, topic: str, read: Read, context: Context) -> Outcome[Any]:
        return self._replay.expected(topic, read.row, read.asked, context)

    def _unexplained(
        self,
        offset: int,
        item: Outcome[Any],
        steps: list[tuple[Position, str, Read]],
        context: Context,
    ) -> set[Position]:
        """No record gives this item: hold it against the one that it names, or the first."""
        if not steps:
            text = f"command {item.id} has no source record: the sources end"
            self._findings.add(Rule.SOURCE_PRESENT, self._topic, offset, text)
            return set()
        named = [step for step in steps if step[2].asked.id == item.id]
        after, topic, read = (named or steps)[0]
        self._compare(offset, item, topic, read.row, self._expected(topic, read, context))
        return {after}

    def _check_offsets(self, offset: int, entry: Entry[Any]) -> None:
        have = {topic: end for topic, end in self.positions.items() if end}
        claimed = {topic: end for topic, end in entry.sources.items() if end}
        if have != claimed:
            text = f"sources are {claimed}; the {len(entry.batch)} commands end at {have}"
            self._findings.add(Rule.SOURCE_OFFSETS, self._topic, offset, text)


def _steps(
    positions: set[Position], topics: list[str], window: Mapping[str, Sequence[Read]]
) -> list[tuple[Position, str, Read]]:
    """Every way to take one more record: (position after it, topic, record)."""
    found = []
    for position in sorted(positions):
        for i, topic in enumerate(topics):
            if position[i] < len(window[topic]):
                after = (*position[:i], position[i] + 1, *position[i + 1 :])
                found.append((after, topic, window[topic][position[i]]))
    return found


def _told(outcome: Outcome[Any]) -> str:
    if outcome.rejected is not None:
        return f"rejected ({outcome.rejected})"
    return f"{outcome.type} {outcome.events}"
