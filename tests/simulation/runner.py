"""Runs one seed, or many; a failure says how to run it again."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from tests.simulation.faults import Coverage, Profile, drawn, merged
from tests.simulation.invariants import Violation
from tests.simulation.kernel import MS, Kernel, TooManyEvents
from tests.simulation.load import Load
from tests.simulation.nemesis import Nemesis
from tests.simulation.pipes import JOURNAL, SINK
from tests.simulation.snapshots import Keeper
from tests.simulation.world import World

TRACE_LINES = 60
"""How much of the trace a failure shows."""

LOOK_US = 20 * MS
"""When it is calm, this often it is looked whether all is well."""


@dataclass
class Report:
    """What came of one seed."""

    seed: int
    events: int
    virtual_ms: int
    coverage: Coverage
    invariant: str | None = None  # that does not hold
    detail: str = ""
    trace_hash: str = ""
    lines: list[str] | None = None

    def failure(self) -> str:
        """For people."""
        lines = "\n".join((self.lines or [])[-TRACE_LINES:])
        return (
            f"{lines}\n\nseed {self.seed}, {self.virtual_ms} ms: {self.invariant}\n{self.detail}\n"
            f"again: ./postjournal test --seed {self.seed}"
        )


class Simulation:
    """One run: a seed, a world, those who act in it."""

    def __init__(self, seed: int, *, traced: bool = False, profile: Profile | None = None) -> None:
        """Without a profile the seed draws one."""
        self.seed = seed
        self.kernel = Kernel(seed, traced=traced)
        self.world = World(self.kernel, profile or drawn(self.kernel.random))
        self.load = Load(self.world)
        self.nemesis = Nemesis(self.world)
        self.keeper = Keeper(self.world)

    def run(self) -> None:
        """Faults and load, then calm; raises `Violation`."""
        world = self.world
        world.calm_at_us = world.profile.faults_us
        self._count(world.profile)
        world.start()
        self.nemesis.start()
        self.keeper.start()
        self.load.start()
        self.kernel.after(LOOK_US, self._restart_the_dead)
        world.run_for(world.profile.faults_us)
        self.calm_down()
        self.load.finish()
        world.run_for(250 * MS)
        self.until_well()

    def _count(self, profile: Profile) -> None:
        hit = self.world.coverage.hit
        hit(f"runs with {profile.replicas} replicas")
        hit(f"runs with {profile.shards} shards")
        hit("runs with drifting clocks", 1 if profile.drift else 0)

    def _restart_the_dead(self) -> None:
        """A supervisor, of changing diligence."""
        kernel = self.kernel
        for host in self.world.hosts:
            if not host.alive and kernel.random.random() < 0.3:
                host.start()
        if not self.world.calm:
            kernel.after(kernel.between(5 * MS, 300 * MS), self._restart_the_dead)

    def calm_down(self) -> None:
        """No more faults; the dead are started again."""
        world = self.world
        world.calm = True
        world.set_broker(away=False)
        for topics in (JOURNAL, SINK):
            world.set_refusing(topics, refusing=False)
        for host in world.hosts:
            world.set_muted(host, muted=False)
            host.be_normal()
            host.strike = None
            host.stalled_until_us = min(host.stalled_until_us, self.kernel.now_us)
            world.set_cut(host, cut=False)
            if not host.alive:
                host.start()

    def until_well(self) -> None:
        """All is well within the bound, and everything is where it must be."""
        world = self.world
        end_us = self.kernel.now_us + world.profile.bound_us
        while not world.is_well():
            if self.kernel.now_us > end_us:
                raise Violation("liveness", world.unwell())
            world.run_for(LOOK_US)
            self._restart_stopped()
        for host in world.hosts:
            for seat in host.seats:
                world.audit.thorough(seat, final=True)

    def _restart_stopped(self) -> None:
        for host in self.world.hosts:
            if not host.alive:
                host.start()


def run_seed(seed: int, *, traced: bool = False, profile: Profile | None = None) -> Report:
    """Run a seed; an engine that fails an assertion or halts has failed as well."""
    simulation = Simulation(seed, traced=traced, profile=profile)
    invariant, detail = None, ""
    try:
        simulation.run()
    except Violation as violation:
        invariant, detail = violation.invariant, violation.detail
    except TooManyEvents:
        invariant, detail = "it_comes_to_an_end", simulation.world.unwell()
    except Exception as error:  # noqa: BLE001 - an engine that raises has failed
        invariant, detail = f"no_{type(error).__name__}", traceback.format_exc(limit=-6).strip()
    kernel = simulation.kernel
    return Report(
        seed,
        kernel.events,
        kernel.now_us // MS,
        simulation.world.coverage,
        invariant,
        detail,
        kernel.trace_hash() if traced else "",
        kernel.lines,
    )


def explained(report: Report) -> Report:
    """A failure again, with its trace."""
    return run_seed(report.seed, traced=True) if report.invariant else report


def run_seeds(seeds: Iterable[int], processes: int = 2) -> Generator[Report]:
    """Run many; reports come in the order of the seeds, failures with their traces.

    The workers are spawned: forked ones inherit the threads' locks and the signal handlers of the
    test run, and a pool that ends them by SIGTERM then waits for ever if the handler's exception is
    lost. This one ends them by a message, and raises if one dies.
    """
    if processes == 1:
        yield from map(_run_and_explain, seeds)
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield from pool.map(_run_and_explain, seeds, chunksize=20)
    finally:
        pool.shutdown(cancel_futures=True)


def _run_and_explain(seed: int) -> Report:
    return explained(run_seed(seed))


def summary(reports: list[Report]) -> str:
    """The table of everything that happened."""
    coverage = merged(report.coverage for report in reports)
    events = sum(report.events for report in reports)
    virtual_s = sum(report.virtual_ms for report in reports) // 1_000
    return f"{len(reports):,} seeds, {events:,} events, {virtual_s:,} s\n{coverage.table()}"
