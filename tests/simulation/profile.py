"""The profile of a run: its size, its delays, and which faults happen how often."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from postjournal.core.limits import Limits
from tests.simulation.broker import SINKS, SOURCES
from tests.simulation.event_loop import MS

FAULTS = (
    "kill",
    "kill_all",
    "kill_engine",
    "pause",
    "cut",
    "broker_unavailable",
    "slow_fetch",
    "stall_fetch",
    "slow_append",
    "slow_publish",
    "wall_clock_jump",
    "monotonic_jump",
    "false_tripwire",
    "false_tripwires",
    "handover",
    "handover_burst",
    "graceful_stop",
    "stop_all",
    "restart",
    "suspend",
    "mute",
    "refuse",
    "block",
    "stall_topic",
    "foreign_record",
    "corrupt_entry",
    "forged_record",
)
"""Faults that `FaultInjector` injects; each is a method of it."""

OUT_OF_REACH, REFUSED = "a topic out of reach", "entries refused"
PERSISTING = ("kill", "cut", "mute", "journal", *SOURCES, *SINKS, OUT_OF_REACH, REFUSED)
"""Faults that last. All but the last two are one host's, and the others must go on; names of
topics: it does not reach that one. The last two: no host reaches some topic, or the journal takes
claims and heartbeats, but no entry."""

WEIGHTS = {
    "kill": 3,
    "kill_engine": 2,
    "pause": 3,
    "kill_all": 0.3,
    "stop_all": 0.3,
    "handover_burst": 0.3,
}
"""Relative frequency of a fault; 1 for the others."""


@dataclass
class SnapshotFaults:
    """Snapshot faults of one run; by default none are requested. µs, else probabilities."""

    gap_us: int = 0  # mean time between requests; 0: none
    store_us: int = 2 * MS  # mean time to store one
    restore_us: int = 1 * MS
    fails: float = 0.0
    damage: float = 0.0  # a stored one is damaged after it was verified
    hidden: float = 0.0  # a replica does not see one that is there
    leader: float = 0.0  # a request allows the leader
    repeated: float = 0.0  # a request is sent twice
    trims: float = 0.0  # the journal is trimmed after a request
    resigned: float = 0.0  # one is requested between a resignation and the next leader


def draw_snapshot_faults(random: Random) -> SnapshotFaults:
    """Three of four seeds have snapshots; see `draw_profile`."""
    if random.random() < 0.25:
        return SnapshotFaults()
    faults = SnapshotFaults(
        gap_us=random.choice((60, 150, 400)) * MS,
        store_us=random.choice((500, 2 * MS, 50 * MS, 400 * MS)),
        restore_us=random.choice((100, 1 * MS, 30 * MS)),
    )
    for name, highest in (
        ("fails", 0.3),
        ("damage", 0.4),
        ("hidden", 0.4),
        ("leader", 0.5),
        ("repeated", 0.3),
        ("trims", 0.9),
        ("resigned", 0.9),
    ):
        if random.random() < 0.5:
            setattr(faults, name, random.random() * highest)
    return faults


@dataclass
class Profile:
    """Size, delays and faults of one run, without faults by default. µs, else probabilities."""

    replicas: int = 3
    shards: int = 1
    faults_us: int = 0  # duration of the phase with faults
    bound_us: int = 8_000 * MS  # within which the cluster must be healthy after the last fault
    late_us: int = 10 * MS  # a waiting process takes its turn up to this late
    needless_us: int = 0  # it takes a turn this often without a reason; 0: never
    append_us: int = 600  # mean time until an append lands
    ack_us: int = 400  # mean time until an acknowledgement arrives
    fetch_us: int = 500  # mean time until a landed record is fetched
    publish_us: int = 600
    probe_us: int = 1_000
    append_lost: float = 0.0
    append_unacknowledged: float = 0.0  # it lands, its acknowledgement is lost
    append_twice: float = 0.0
    append_swapped: float = 0.0
    claim_lost: float = 0.0
    claim_late: float = 0.0
    publish_fails: float = 0.0
    zombie_sink_breaks: float = 0.0  # of a deposed leader that has not read of its successor
    zombie_delay: float = 0.0  # requests in flight at a crash or pause land much later
    lost_at_crash: float = 0.0
    tripwire_late: float = 0.0
    tripwire_never: float = 0.0
    append_refused: float = 0.0  # rejected by the producer
    report_late: float = 0.0
    probe_late: float = 0.0
    drift: float = 0.0  # maximum drift of monotonic clocks
    wall_grain_ms: int = 1  # resolution of wall clocks
    duplicate_names: bool = False  # two hosts have the same replica name
    faults: dict[str, float] = field(default_factory=dict)  # name → weight
    fault_gap_us: int = 0  # mean time between two
    commands: int = 0
    duplicate: float = 0.0
    poison: float = 0.0
    queries: int = 0
    releases: bool = False  # some hosts run an application with a sink less
    fatal: bool = False  # the last host's application crashes at some record
    persisting: str | None = None  # a fault of one host that lasts after all others have ended
    accounts: int = 4
    limits: Limits = field(default_factory=Limits)
    snapshots: SnapshotFaults = field(default_factory=SnapshotFaults)


def draw_profile(random: Random) -> Profile:
    """Draw the profile of a seed.

    Swarm testing: most faults are off in a run, so that one does not mask another and each
    meets stretches without others in which the system makes progress.
    """
    faults_us = random.choice((900, 1_500, 2_500)) * MS
    often = random.choice((0.2, 0.4, 0.6))
    replicas = random.choice((1, 2, 2, 3, 3, 3, 4, 5))
    profile = Profile(
        replicas=replicas,
        duplicate_names=replicas > 1 and random.random() < 0.1,
        shards=random.choice((1, 1, 1, 1, 2, 3)),
        faults_us=faults_us,
        late_us=random.choice((1, 5, 20, 50)) * MS,
        needless_us=random.choice((0, 0, 7, 30)) * MS,
        append_us=random.choice((150, 600, 600, 3_000, 20_000)),
        ack_us=random.choice((200, 400, 3_000, 30_000)),
        fetch_us=random.choice((100, 500, 500, 3_000, 15_000)),
        publish_us=random.choice((300, 600, 4_000, 30_000)),
        probe_us=random.choice((500, 1_000, 10_000)),
        drift=random.choice((0.0, 0.001, 0.05)),
        wall_grain_ms=random.choice((1, 1, 1, 16)),
        faults={
            name: random.random() * WEIGHTS.get(name, 1)
            for name in FAULTS
            if random.random() < often
        },
        fault_gap_us=random.choice((60, 120, 250, 500)) * MS,
        commands=random.choice((20, 60, 60, 120)),
        duplicate=random.choice((0.0, 0.05, 0.2)),
        poison=random.choice((0.0, 0.05)),
        queries=random.choice((0, 15, 30)),
        persisting=random.choice((*[None] * 5, *PERSISTING)) if replicas > 1 else None,
        releases=random.random() < 0.2,
        fatal=replicas > 1 and random.random() < 0.1,
        accounts=random.choice((2, 4, 8)),
        limits=_draw_limits(random),
        snapshots=draw_snapshot_faults(random),
    )
    if profile.persisting in (*SOURCES, *SINKS, OUT_OF_REACH):
        stall_ms = min(profile.limits.stall_ms, 1_100)  # the run would be too long
        profile.limits = replace(profile.limits, stall_ms=stall_ms)
    if profile.releases:
        # An older snapshot or the journal may be needed: see `image._check_complete`.
        profile.snapshots.trims = 0.0
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
    """Small limits are reached often; the defaults are drawn at times too."""
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
        stall_ms=random.choice((1_100, 1_100, 2_000, 10_000)),
        impaired_ms=random.choice((500, 2_000, 60_000)),
        impaired_grace_ms=random.choice((60, 200)),
        entry_bytes=random.choice((4_000_000, 4_000_000, 3_000)),
    )
