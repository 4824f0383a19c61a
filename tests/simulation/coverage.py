"""Counts how often each fault and each notable event happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

COUNTERS = (
    *(f"runs with {count} replicas" for count in range(1, 6)),
    *(f"runs with {count} shards" for count in range(1, 4)),
    "runs with drifting clocks",
    "takeovers",
    "takeovers: no_leader",
    "takeovers: resigned",
    "takeovers: silence",
    "takeovers: tripwire",
    "takeovers with entries in flight",
    "void claims",
    "void entries",
    "entries over a gap",
    "void heartbeats",
    "void records of a resigned leader",
    "void foreign records",
    "alarms at corrupt entries",
    "forged entries",
    "forged entries, own in flight",
    "forged heartbeats",
    "forged resignations",
    "appends lost",
    "appends lost, a later one landed",
    "indeterminate appends that landed",
    "appends landed twice",
    "appends rejected by the producer",
    "appends reported late",
    "appends out of order",
    "appends dropped at a crash",
    "zombie appends after a claim",
    "zombie appends after death",
    "claims lost",
    "claims landed late",
    "claims purged",
    "concurrent claims",
    "late zombie publishes",
    "outputs in a sink twice",
    "sink failures",
    "sink failures with a prefix landed",
    "sinks ahead of the position read",
    "publishes lost at a crash",
    "first requests of a producer lost",
    "rebuilds",
    "void own records, no rebuild",
    "kills",
    "kills between two effects",
    "engines killed",
    "all replicas killed",
    "pauses",
    "pauses between two effects",
    "paused leaders deposed",
    "suspended machines",
    "restarts",
    "immediate restarts",
    "two hosts with one name",
    "late tripwires",
    "missing tripwires",
    "false tripwires",
    "tripwires after a restart",
    "rows that were dead already",
    "tripwires of an earlier leader",
    "links cut",
    "hosts muted",
    "sources blocked",
    "sinks blocked",
    "journals blocked",
    "impairments",
    "claims of an impaired replica",
    "impaired leaders that stay",
    "faults that persist",
    "entries refused",
    "hosts without a sink",
    "entries of a leader without a sink",
    "engines halted at a fatal record",
    "snapshots that lack outputs skipped",
    "broker unavailable",
    "journal topics refuse",
    "sink topics refuse",
    "unreadable topics",
    "probes unanswered",
    "probes answered late",
    "probes answered out of order",
    "stalled fetches",
    "wall clock jumps forward",
    "wall clock jumps back",
    "monotonic clock jumps",
    "handovers",
    "graceful stops",
    "sources paused",
    "decisions paused for a sink",
    "duplicates",
    "duplicates with another payload",
    "duplicates across a takeover",
    "duplicates after the window",
    "poison",
    "commands of another shard",
    "linearizable answers",
    "linearizable queries refused",
    "answers of any replica",
    "two sources in an entry",
    "snapshots taken",
    "snapshots of a leader",
    "snapshots failed",
    "slow snapshots",
    "snapshots abandoned",
    "snapshots damaged in the store",
    "snapshots across a takeover",
    "snapshot requests refused",
    "snapshot requests repeated",
    "damaged snapshots skipped",
    "restores from the newest snapshot",
    "restores from an older snapshot",
    "restores without a snapshot",
    "journals trimmed",
    "readers overtaken by trimming",
)
"""Each must have happened at least once over the seeds of a suite."""


class Coverage(Counter[str]):
    """How often each of `COUNTERS` happened."""

    def hit(self, name: str, count: int = 1) -> None:
        """Count an event of `COUNTERS`."""
        assert name in _KNOWN, name
        self[name] += count

    def missing(self) -> list[str]:
        """The counters that are 0."""
        return [name for name in COUNTERS if not self[name]]

    def table(self) -> str:
        """All counters in two columns."""
        rows = [f"{self[name]:>10,}  {name}" for name in COUNTERS]
        half = (len(rows) + 1) // 2
        left, right = rows[:half], [*rows[half:], ""]
        return "\n".join(f"{mine:<52}{row}" for mine, row in zip(left, right, strict=False))


_KNOWN = frozenset(COUNTERS)


def merged(coverages: Iterable[Coverage]) -> Coverage:
    total = Coverage()
    for coverage in coverages:
        total.update(coverage)
    return total
