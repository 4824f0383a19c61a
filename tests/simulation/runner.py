"""Runs one seed or many; a failure shows how to run it again."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from postjournal.core.liveness.impairment import LONGEST, OVER
from tests.simulation.application import LATEST
from tests.simulation.broker import SINKS, SOURCES
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.coverage import Coverage, merged
from tests.simulation.event_loop import MS, EventLoop, TooManyEvents
from tests.simulation.fault_injector import FaultInjector
from tests.simulation.invariants import Violation, must
from tests.simulation.load import Load
from tests.simulation.maintenance import Maintenance
from tests.simulation.producers import JOURNAL, SINK
from tests.simulation.profile import OUT_OF_REACH, REFUSED, Profile, draw_profile

TRACE_LINES = 60
"""How many lines of the trace a failure shows."""

CHECK_INTERVAL_US = 20 * MS
"""How often the cluster is checked for health after the faults."""


@dataclass
class Report:
    """The result of one seed."""

    seed: int
    events: int
    virtual_ms: int
    coverage: Coverage
    invariant: str | None = None  # the name of the violated invariant
    detail: str = ""
    trace_hash: str = ""
    lines: list[str] | None = None

    def failure(self) -> str:
        """The message of a failed test."""
        lines = "\n".join((self.lines or [])[-TRACE_LINES:])
        return (
            f"{lines}\n\nseed {self.seed}, {self.virtual_ms} ms: {self.invariant}\n{self.detail}\n"
            f"again: ./postjournal test --seed {self.seed}"
        )


class Simulation:
    """One run: a seed, a cluster, its load, its faults and its maintenance."""

    def __init__(self, seed: int, *, traced: bool = False, profile: Profile | None = None) -> None:
        """Without a profile, the seed draws one."""
        self.seed = seed
        self.loop = EventLoop(seed, traced=traced)
        self.cluster = SimulatedCluster(self.loop, profile or draw_profile(self.loop.random))
        self.load = Load(self.cluster)
        self.fault_injector = FaultInjector(self.cluster)
        self.maintenance = Maintenance(self.cluster)

    def run(self) -> None:
        """Run faults and load, end the faults, wait until the cluster is healthy.

        Raises `Violation`.
        """
        cluster = self.cluster
        cluster.faults_end_us = cluster.profile.faults_us
        self._count(cluster.profile)
        cluster.start()
        self.fault_injector.start()
        self.maintenance.start()
        self.load.start()
        self.loop.after(CHECK_INTERVAL_US, self._restart_exited)
        cluster.run_for(cluster.profile.faults_us)
        self.end_faults()
        self.load.finish()
        cluster.run_for(250 * MS)
        self.run_until_healthy()
        persisting = cluster.profile.persisting
        if persisting == OUT_OF_REACH:
            self._wait_without_a_topic()
        elif persisting == REFUSED:
            self._wait_without_entries()
        elif persisting is not None:
            self._go_on_despite(persisting)

    def _wait_without_entries(self) -> None:
        """Elections lead to nothing, and become rare."""
        cluster, limits = self.cluster, self.cluster.profile.limits
        cluster.coverage.hit("faults that persist")
        cluster.refuses_entries = True
        self.load.finish()
        cluster.run_for(2 * sum(2**n for n in range(4)) * limits.impaired_grace_ms * MS)
        epochs = [audit.fold.epoch for audit in cluster.audit.shards]
        waits = 5
        cluster.run_for(waits * LONGEST * limits.impaired_grace_ms * MS)
        for audit, before in zip(cluster.audit.shards, epochs, strict=True):
            most = 2 * (waits + 1) * cluster.profile.replicas
            elections = audit.fold.epoch - before
            must(elections <= most, "elections_that_lead_to_nothing_are_rare", "%d", elections)
        cluster.refuses_entries = False
        self.end_faults()
        self.run_until_healthy()

    def _wait_without_a_topic(self) -> None:
        """Each host in turn tries to lead; nothing more than that happens."""
        cluster, limits = self.cluster, self.cluster.profile.limits
        cluster.coverage.hit("faults that persist")
        topic = self.loop.random.choice((*SOURCES, *SINKS))
        for host in cluster.hosts:
            cluster.set_blocked(host, topic, blocked=True)
        self.load.finish()
        turn_ms = 2 * limits.stall_ms + limits.resign_ms + limits.silence_ms
        cluster.run_for((cluster.profile.replicas + 1) * turn_ms * MS)
        self.end_faults()
        self.run_until_healthy()
        epochs = [audit.fold.epoch for audit in cluster.audit.shards]
        cluster.run_for((OVER + 3) * limits.stall_ms * MS)
        for process in (process for host in cluster.hosts for process in host.processes):
            replica, epoch = process.replica, epochs[process.topics.shard]
            leads = replica.leadership is not None and replica.leadership.epoch == epoch
            reason = replica.impaired_reason if leads else None
            must(reason is None, "an_impairment_ends", "%s: %s", process.host.name, reason)

    def _go_on_despite(self, fault: str) -> None:
        """One host has a fault that lasts: the others decide and publish all commands."""
        cluster = self.cluster
        host = cluster.leader(self.loop.random.randrange(cluster.profile.shards))
        if host is None or any(process.replica.impaired_reason for process in host.processes):
            return  # an impaired leader may stay
        cluster.coverage.hit("faults that persist")
        if fault == "kill":
            host.kill()
        elif fault == "cut":
            cluster.set_cut(host, cut=True)
        elif fault == "mute":
            cluster.set_muted(host, muted=True)
        else:
            cluster.set_blocked(host, fault, blocked=True)
        self.load.finish()
        cluster.run_for(250 * MS)
        bound_us = cluster.profile.bound_us + 3 * cluster.profile.limits.stall_ms * MS
        end_us = self.loop.now_us + bound_us
        while not cluster.works():
            if self.loop.now_us > end_us:
                raise Violation("liveness_while_a_fault_persists", cluster.why_unhealthy())
            cluster.run_for(CHECK_INTERVAL_US)
        self.end_faults()
        self.run_until_healthy()

    def _count(self, profile: Profile) -> None:
        hit = self.cluster.coverage.hit
        hit(f"runs with {profile.replicas} replicas")
        hit(f"runs with {profile.shards} shards")
        hit("runs with drifting clocks", 1 if profile.drift else 0)

    def _restart_exited(self) -> None:
        """Restart hosts that are down, as a supervisor does, sooner or later."""
        loop = self.loop
        for host in self.cluster.hosts:
            if not host.alive and loop.random.random() < 0.3:
                host.start()
        if not self.cluster.faults_over:
            loop.after(loop.uniform(5 * MS, 300 * MS), self._restart_exited)

    def end_faults(self) -> None:
        """End all faults and start all hosts."""
        cluster = self.cluster
        cluster.faults_over = True
        cluster.set_broker(available=True)
        for topics in (JOURNAL, SINK):
            cluster.set_refusing(topics, refusing=False)
        for host in cluster.hosts:
            cluster.set_muted(host, muted=False)
            for topic in tuple(host.blocked):
                cluster.set_blocked(host, topic, blocked=False)
            host.reset_speed()
            host.scheduled_fault = None
            host.stalled_until_us = min(host.stalled_until_us, self.loop.now_us)
            cluster.set_cut(host, cut=False)
            if host.alive and host.application.release != LATEST:
                host.kill()  # it is updated
            if not host.alive:
                host.start()

    def run_until_healthy(self) -> None:
        """Run until the cluster is healthy, at most `bound_us`, then check the slow invariants."""
        cluster = self.cluster
        end_us = self.loop.now_us + cluster.profile.bound_us
        while not cluster.is_healthy():
            if self.loop.now_us > end_us:
                raise Violation("liveness", cluster.why_unhealthy())
            cluster.run_for(CHECK_INTERVAL_US)
            self._start_all()
        for host in cluster.hosts:
            for process in host.processes:
                cluster.audit.thorough(process, final=True)

    def _start_all(self) -> None:
        for host in self.cluster.hosts:
            if not host.alive:
                host.start()


def run_seed(seed: int, *, traced: bool = False, profile: Profile | None = None) -> Report:
    """Run a seed; an engine that raises an exception or halts fails as well."""
    simulation = Simulation(seed, traced=traced, profile=profile)
    invariant, detail = None, ""
    try:
        simulation.run()
    except Violation as violation:
        invariant, detail = violation.invariant, violation.detail
    except TooManyEvents:
        invariant, detail = "a_run_terminates", simulation.cluster.why_unhealthy()
    except Exception as error:  # noqa: BLE001 - an engine that raises has failed
        invariant, detail = f"no_{type(error).__name__}", traceback.format_exc(limit=-6).strip()
    loop = simulation.loop
    return Report(
        seed,
        loop.events,
        loop.now_us // MS,
        simulation.cluster.coverage,
        invariant,
        detail,
        loop.trace_hash() if traced else "",
        loop.lines,
    )


def with_trace(report: Report) -> Report:
    """Run a failed seed again to obtain its trace."""
    return run_seed(report.seed, traced=True) if report.invariant else report


def run_seeds(seeds: Iterable[int], processes: int = 2) -> Generator[Report]:
    """Run many; reports come in the order of the seeds, failures with their traces.

    The workers are spawned: forked ones inherit the threads' locks and the signal handlers of the
    test run, and a pool that ends them by SIGTERM then hangs if the handler's exception is lost.
    This one ends them by a message, and raises if one dies.
    """
    if processes == 1:
        yield from map(_run_with_trace, seeds)
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield from pool.map(_run_with_trace, seeds, chunksize=20)
    finally:
        pool.shutdown(cancel_futures=True)


def _run_with_trace(seed: int) -> Report:
    return with_trace(run_seed(seed))


def summary(reports: list[Report]) -> str:
    """The table of all counters."""
    coverage = merged(report.coverage for report in reports)
    events = sum(report.events for report in reports)
    virtual_s = sum(report.virtual_ms for report in reports) // 1_000
    return f"{len(reports):,} seeds, {events:,} events, {virtual_s:,} s\n{coverage.table()}"
