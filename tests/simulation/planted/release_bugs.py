"""Bugs in what holds between releases, and after a crash at a record.

See the package's docstring for the format.
"""

from __future__ import annotations

from tests.simulation.planted.planting import Change

STATE_MACHINE: dict[str, Change] = {
    "an entry of a leader without a sink adds outputs to it": (
        "end = entry.sinks.get(sink, outbox.next_seq)",
        "end = entry.sinks.get(sink, outbox.next_seq + len(outcomes))",
    ),
    "the ends of other releases' sinks are not noted": (
        "self.other_sinks.update({sink: entry.sinks[sink] for sink in others})",
        "pass",
    ),
    "the ends of other releases' sinks are those of the first entry": (
        "self.other_sinks.update({sink: entry.sinks[sink] for sink in others})",
        "self.other_sinks = {sink: entry.sinks[sink] for sink in others} | self.other_sinks",
    ),
}

IMAGE: dict[str, Change] = {
    "a snapshot without a sink's outputs is restored": (
        "if published != end:",
        "if published > end:",
    ),
    "the sinks of the release that took a snapshot are forgotten": (
        "ends = header.other_sinks | header.sinks",
        "ends = header.other_sinks",
    ),
    "what a snapshot has of other releases' sinks is forgotten": (
        "ends = header.other_sinks | header.sinks",
        "ends = dict(header.sinks)",
    ),
    "a snapshot does not have other releases' sinks": (
        "{sink: end for sink, end in sorted(machine.other_sinks.items()) if end}",
        "{}",
    ),
    "a sink that was removed keeps its outputs": (
        "for sink, outbox in machine.outboxes.items():",
        "for sink, outbox in {sink: machine.outboxes[sink] for sink in values}.items():",
        "_load_outputs",
    ),
}

GUARD: dict[str, Change] = {
    "an entry is not marked while it is applied": (
        "self._mark[0] = offset",
        "pass",
    ),
    "the mark of an entry remains": (
        "self._mark[0] = offset\ntry:\n    machine.apply(entry)\nexcept ShardHalted:\n"
        "    self._mark[0] = NONE\n    raise\nself._mark[0] = NONE",
        "self._mark[0] = offset\nmachine.apply(entry)",
    ),
    "the fatal entry is applied again": (
        "if offset == self._fatal_offset:",
        "if offset < self._fatal_offset < offset:",
    ),
    "the entry before the fatal one is not applied": (
        "if offset == self._fatal_offset:",
        "if offset + 1 == self._fatal_offset:",
    ),
}

REPLICA: dict[str, Change] = {
    "the mark is at the next record": (
        "self._guard.apply(self.machine, self.position - 1, record)",
        "self._guard.apply(self.machine, self.position, record)",
    ),
    "entries are applied without a mark": (
        "self._guard.apply(self.machine, self.position - 1, record)",
        "self.machine.apply(record)",
    ),
}
