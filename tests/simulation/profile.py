"""What may go wrong in one run, how often; and the count of what really did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from postjournal.core.limits import Limits
from tests.simulation.event_loop import MS
from tests.simulation.snapshots import SnapshotFaults, draw_snapshot_faults

ACTIONS = (
    "kill",
    "kill_all",
    "pause",
    "cut",
    "broker_unavailable",
    "slow_fetch",
    "stall_fetch",
    "slow_append",
    "slow_publish",
    "clock_jump",
    "clock_leap",
    "false_tripwire",
    "false_tripwires",
    "handover",
    "handover_storm",
    "graceful_stop",
    "stop_all",
    "restart",
    "suspend",
    "mute",
    "refuse",
    "stall_topic",
    "foreign_record",
    "forged_entry",
    "impostor",
)
"""What the fault_injector does from time to time; each is a method of it."""

WEIGHTS = {"kill": 3, "pause": 3, "kill_all": 0.3, "stop_all": 0.3, "handover_storm": 0.3}
"""How often an action is to be had, others being 1."""

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
    "alarms at forged entries",
    "entries of an impostor",
    "entries of an impostor, own in flight",
    "heartbeats of an impostor",
    "resignations of an impostor",
    "appends lost",
    "appends lost, a later one landed",
    "indeterminate appends that landed",
    "appends landed twice",
    "appends not taken by the producer",
    "appends reported late",
    "appends out of order",
    "appends dropped at a crash",
    "zombie appends after a claim",
    "zombie appends after death",
    "claims lost",
    "claims landed late",
    "claims purged",
    "claims of several at once",
    "zombie publishes late",
    "outputs in a sink twice",
    "sink failures",
    "sink failures with a prefix landed",
    "sinks ahead of what was read",
    "publishes lost at a crash",
    "first requests of a producer lost",
    "rebuilds",
    "void own records, no rebuild",
    "kills",
    "kills between two effects",
    "all dead",
    "pauses",
    "pauses between two effects",
    "a paused leader deposed",
    "suspends",
    "restarts",
    "restarts at once",
    "two processes of one name",
    "late tripwires",
    "missing tripwires",
    "false tripwires",
    "tripwires after a restart",
    "tripwires of an earlier leader",
    "links cut",
    "processes muted",
    "broker unavailable",
    "journal topics refuse",
    "sink topics refuse",
    "topics that nobody can read",
    "probes unanswered",
    "probes answered late",
    "probes answered out of order",
    "stalled fetches",
    "clock jumps",
    "clock jumps back",
    "monotonic leaps",
    "handovers",
    "graceful stops",
    "sources held",
    "decisions held for a sink",
    "duplicates",
    "duplicates with another payload",
    "duplicates over a takeover",
    "duplicates after the window",
    "poison",
    "commands of another shard",
    "linearizable answers",
    "linearizable answers refused",
    "other answers",
    "two sources in an entry",
    "snapshots taken",
    "snapshots of a leader",
    "snapshots failed",
    "snapshots that took long",
    "snapshots given up",
    "snapshots damaged in the store",
    "snapshots over a takeover",
    "snapshot orders refused",
    "snapshot orders repeated",
    "damaged snapshots skipped",
    "restores from the newest snapshot",
    "restores from an older snapshot",
    "restores from nothing",
    "journals trimmed",
    "readers overtaken by trimming",
)
"""Every one must have happened at least once over the seeds of a suite."""


class Coverage(Counter[str]):
    """How often each of `COUNTERS` happened."""

    def hit(self, name: str, count: int = 1) -> None:
        """It happened; an unknown name is a mistake in the simulation."""
        assert name in _KNOWN, name
        self[name] += count

    def missing(self) -> list[str]:
        """What never happened."""
        return [name for name in COUNTERS if not self[name]]

    def table(self) -> str:
        """All counters in two columns."""
        rows = [f"{self[name]:>10,}  {name}" for name in COUNTERS]
        half = (len(rows) + 1) // 2
        left, right = rows[:half], [*rows[half:], ""]
        return "\n".join(f"{mine:<52}{row}" for mine, row in zip(left, right, strict=False))


_KNOWN = frozenset(COUNTERS)


def merged(coverages: Iterable[Coverage]) -> Coverage:
    """The sum."""
    total = Coverage()
    for coverage in coverages:
        total.update(coverage)
    return total


@dataclass
class Profile:
    """One run's faults. The defaults are a quiet world; times in µs, the rest probabilities."""

    replicas: int = 3
    shards: int = 1
    faults_us: int = 0  # how long there are faults
    bound_us: int = 8_000 * MS  # how long after the last fault all must be well
    tick_us: int = 20 * MS  # an idle process looks around this often
    append_us: int = 600  # mean time until an append lands
    ack_us: int = 400  # mean time until an acknowledgement is back
    fetch_us: int = 500  # mean time until a landed record is fetched
    publish_us: int = 600
    probe_us: int = 1_000
    append_lost: float = 0.0
    append_unacknowledged: float = 0.0  # it lands, its acknowledgement does not
    append_twice: float = 0.0
    append_swapped: float = 0.0
    claim_lost: float = 0.0
    claim_late: float = 0.0
    publish_fails: float = 0.0
    zombie_sink_breaks: float = 0.0  # of a leader who is deposed and does not know it
    zombie_delay: float = 0.0  # what is in flight at a crash or a pause lands much later
    lost_at_crash: float = 0.0
    tripwire_late: float = 0.0
    tripwire_never: float = 0.0
    append_refused: float = 0.0  # the producer does not take it
    report_late: float = 0.0
    probe_late: float = 0.0
    drift: float = 0.0  # of monotonic clocks, at most
    wall_grain_ms: int = 1  # wall clocks tell multiples of this
    doubles: bool = False  # two processes have the same name
    actions: dict[str, float] = field(default_factory=dict)  # name → weight
    action_gap_us: int = 0  # mean
    commands: int = 0
    duplicate: float = 0.0
    poison: float = 0.0
    queries: int = 0
    accounts: int = 4
    limits: Limits = field(default_factory=Limits)
    snapshots: SnapshotFaults = field(default_factory=SnapshotFaults)


def draw_profile(random: Random) -> Profile:
    """A profile of its own for each seed.

    Swarm testing: most faults are off in a run, so that one does not hide another and each
    meets quiet stretches in which the system gets somewhere.
    """
    faults_us = random.choice((900, 1_500, 2_500)) * MS
    often = random.choice((0.2, 0.4, 0.6))
    replicas = random.choice((1, 2, 2, 3, 3, 3, 4, 5))
    profile = Profile(
        replicas=replicas,
        doubles=replicas > 1 and random.random() < 0.1,
        shards=random.choice((1, 1, 1, 1, 2, 3)),
        faults_us=faults_us,
        tick_us=random.choice((15, 25, 35, 50)) * MS,
        append_us=random.choice((150, 600, 600, 3_000, 20_000)),
        ack_us=random.choice((200, 400, 3_000, 30_000)),
        fetch_us=random.choice((100, 500, 500, 3_000, 15_000)),
        publish_us=random.choice((300, 600, 4_000, 30_000)),
        probe_us=random.choice((500, 1_000, 10_000)),
        drift=random.choice((0.0, 0.001, 0.05)),
        wall_grain_ms=random.choice((1, 1, 1, 16)),
        actions={
            name: random.random() * WEIGHTS.get(name, 1)
            for name in ACTIONS
            if random.random() < often
        },
        action_gap_us=random.choice((60, 120, 250, 500)) * MS,
        commands=random.choice((20, 60, 60, 120)),
        duplicate=random.choice((0.0, 0.05, 0.2)),
        poison=random.choice((0.0, 0.05)),
        queries=random.choice((0, 15, 30)),
        accounts=random.choice((2, 4, 8)),
        limits=_draw_limits(random),
        snapshots=draw_snapshot_faults(random),
    )
    for name, highest in _RATES.items():
        if random.random() < often:
            setattr(profile, name, random.random() * highest)
    return profile


_RATES = {
    "append_lost": 0.1,
    "append_unacknowledged": 0.08,
    "append_twice": 0.15,
    "append_swapped": 0.03,
    "append_refused": 0.03,
    "report_late": 0.1,
    "probe_late": 0.5,
    "claim_lost": 0.5,
    "claim_late": 0.5,
    "publish_fails": 0.06,
    "zombie_sink_breaks": 0.9,
    "zombie_delay": 0.9,
    "lost_at_crash": 0.6,
    "tripwire_late": 0.5,
    "tripwire_never": 0.5,
}


def _draw_limits(random: Random) -> Limits:
    """Small bounds are reached often; the real ones now and then."""
    return Limits(
        batch_commands=random.choice((1, 3, 20, 500)),
        batch_bytes=random.choice((150, 1_000_000)),
        pipeline_entries=random.choice((1, 2, 4, 8)),
        pipeline_commands=random.choice((1, 1, 3, 250)),
        pending_commands=random.choice((4, 20, 8_000)),
        pending_bytes=random.choice((300, 64_000_000)),
        unpublished_outputs=random.choice((6, 40, 60_000)),
        dedupe_window=random.choice((5, 40, 100_000)),
        silence_ms=random.choice((150, 400, 400)),
        readback_ms=random.choice((600, 2_000)),
        entry_bytes=random.choice((4_000_000, 4_000_000, 3_000)),
    )
