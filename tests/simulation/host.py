"""A host: it can be killed or paused between any two effects, and started again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from postjournal.core.errors import ApplicationFaulty
from postjournal.core.state.apply_guard import NONE, ApplyGuard
from tests.simulation.application import SimLedger
from tests.simulation.event_loop import MS
from tests.simulation.invariants import Violation, must

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.producers import SimProducer
    from tests.simulation.shard_process import ShardProcess

FATAL_DEATHS = 3
"""As in production, `services.replica.parent`."""

Deferred = tuple[str, Callable[..., None], tuple[Any, ...]]


class Killed(BaseException):
    """The host was killed in the middle of a step, or one engine of it: `engine_only`.

    Code under test must not catch it.
    """

    def __init__(self, engine_only: bool) -> None:
        super().__init__()
        self.engine_only = engine_only


@dataclass
class ScheduledFault:
    """A pause or a kill that is triggered by an effect of the host.

    `effect`: the kind of effect, None for any; `skip`: how many of them pass before; `pause_us`:
    None kills. It is triggered just before the effect, or just `after` it. `engine_only`: it kills
    the engine of the shard whose effect it is, and not the host.
    """

    effect: str | None = None
    skip: int = 0
    after: bool = False
    pause_us: int | None = None
    engine_only: bool = False

    def is_due(self, effect: str) -> bool:
        """Whether `effect` triggers it."""
        if self.effect not in (None, effect):
            return False
        self.skip -= 1
        return self.skip < 0


class DeathsAtRecord:
    """How often engines of one shard have died in a row while they applied one journal record.

    `mark`: see `ApplyGuard`; it survives the engine.
    """

    def __init__(self) -> None:
        self.mark = [NONE]
        self.offset, self.count = NONE, 0
        self._has_crashed = False

    def on_death(self) -> None:
        """An engine has died; by the application's fault, or at any other moment."""
        offset, self.mark[0] = self.mark[0], NONE
        has_crashed, self._has_crashed = self._has_crashed, False
        name = "a_record_is_marked_only_while_it_is_applied"
        must(has_crashed or offset == NONE, name, "%d", offset)
        if offset != NONE:
            self.count = self.count + 1 if offset == self.offset else 1
            self.offset = offset

    def on_crash(self, offset: int) -> None:
        """The application has crashed at the record at `offset`, which is accepted."""
        self._has_crashed = True
        must(self.mark[0] == offset, "a_fatal_record_is_marked", "%d, not %s", offset, self.mark)
        must(
            offset != self.offset or self.count < FATAL_DEATHS,
            "an_engine_dies_at_most_three_times_at_one_record",
            "%d",
            offset,
        )

    def an_engine_halts_at_its_third_death(self, fault: ApplicationFaulty, offset: int) -> None:
        """At the record at which it died, the one at `offset`."""
        is_third = self.count >= FATAL_DEATHS and offset == self.offset
        name = "an_engine_halts_at_its_third_death"
        must(is_third, name, "at %d, after %d at %d: %s", offset, self.count, self.offset, fault)


class Host:
    """One host of the system under test, with one `ShardProcess` per shard.

    `replica_name` is the name that it is configured with; two hosts may have the same.
    """

    def __init__(self, cluster: SimulatedCluster, name: str, replica_name: str) -> None:
        self.cluster, self.name, self.replica_name = cluster, name, replica_name
        self.address = f"{name}:7071"
        self.start_count = 0
        self._engine_starts = [0] * cluster.profile.shards
        self.application = SimLedger()
        self.stepping: ShardProcess | None = None  # the process that takes its turn
        self.deaths = [DeathsAtRecord() for _ in range(cluster.profile.shards)]
        self.alive = self.stopping = False
        self.cut = False  # no packet to or from the broker
        self.muted = False  # no packet to the broker
        self.blocked: set[str] = set()  # topics that it does not reach, although it does others
        self.paused_until_us: int | None = None
        self.paused_at_us = 0
        self.resumed_ms = 0  # the end of the last pause, by the host's own clock
        self.stalled_until_us = 0  # fetches return nothing until then
        self.wall_offset_ms = 0
        self.mono_offset_us = 0
        self.drift = 0.0
        self.processes: list[ShardProcess] = []
        self.producers: list[SimProducer[Any]] = []
        self.scheduled_fault: ScheduledFault | None = None
        self._deferred: list[Deferred] | None = None
        self._when_reachable: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._when_running: list[Callable[[], None]] = []
        self.reset_speed()

    def reset_speed(self) -> None:
        """Restore the delays of the run's profile."""
        profile = self.cluster.profile
        self.fetch_us, self.append_us = profile.fetch_us, profile.append_us
        self.publish_us, self.ack_us = profile.publish_us, profile.ack_us

    # --- start and end ----------------------------------------------------------------------

    def start(self) -> None:
        """Start with empty memory."""
        assert not self.alive
        cluster = self.cluster
        self.start_count += 1
        self.alive, self.stopping = True, False
        profile = cluster.profile
        self.application = SimLedger(cluster.draw_release(self), self._die)
        self.deaths = [DeathsAtRecord() for _ in self.deaths]
        self.drift = (cluster.loop.random.random() * 2 - 1) * profile.drift
        if self.start_count > 1:
            cluster.coverage.hit("restarts")
        cluster.loop.trace(self.name, "starts (start %d)", self.start_count)
        self.processes = [cluster.make_process(self, topics) for topics in cluster.topics]
        for process in self.processes:
            self._start_engine(process)

    def _start_engine(self, process: ShardProcess) -> None:
        self.guard(process.start, process.topics.shard)

    def life_of(self, shard: int) -> tuple[int, int] | None:
        """Identifies the engine of `shard`, or the time without one; None: the host is down."""
        return (self.start_count, self._engine_starts[shard]) if self.alive else None

    def is_engine_down(self, shard: int) -> bool:
        """Whether the engine is dead, although the host may be running."""
        return not self.alive or self.processes[shard].ended

    def kill_engine(self, shard: int) -> None:
        """SIGKILL to the engine of one shard; it is restarted soon, or when the pause is over."""
        process = self.processes[shard]
        if not self.alive or process.ended or self.paused_until_us is not None:
            return
        cluster = self.cluster
        cluster.coverage.hit("engines killed")
        cluster.loop.trace(self.name, "loses its engine of shard %d", shard)
        cluster.on_engine_end(process)
        process.end()
        self.deaths[shard].on_death()
        self._engine_starts[shard] += 1
        for producer in self.producers:
            if producer.shard == shard:
                producer.on_death()
        self.producers = [p for p in self.producers if p.shard != shard or p.queue]
        cluster.tripwires.on_engine_end(process)
        delay_us = cluster.loop.uniform(1 * MS, 400 * MS)
        cluster.loop.after(delay_us, self._restart_engine, shard, self.life_of(shard))
        self._end_if_stopped()

    def _restart_engine(self, shard: int, life: tuple[int, int]) -> None:
        if self.life_of(shard) != life:
            return
        if self.stopping:
            self._end_if_stopped()
            return
        if self.paused_until_us is not None:
            self.when_running(lambda: self._restart_engine(shard, life))
            return
        self.cluster.loop.trace(self.name, "restarts its engine of shard %d", shard)
        self._engine_starts[shard] += 1
        self.processes[shard] = self.cluster.make_process(self, self.cluster.topics[shard])
        self._start_engine(self.processes[shard])

    def kill(self) -> None:
        """SIGKILL: memory is lost; requests that have departed are still on their way."""
        assert self.alive
        self.cluster.coverage.hit("kills")
        self.end("killed")

    def end(self, reason: str) -> None:
        """End all shard processes; sockets close."""
        self.cluster.loop.trace(self.name, "is %s", reason)
        self.cluster.on_end(self)
        self.alive = self.stopping = False
        self.paused_until_us, self._deferred, self.scheduled_fault = None, None, None
        self._when_reachable.clear()
        self._when_running.clear()
        for process in self.processes:
            if not process.ended:
                process.end()
        for producer in self.producers:
            producer.on_death()
        self.producers = [producer for producer in self.producers if producer.queue]
        self.cluster.tripwires.on_end(self)

    def _die(self) -> None:
        """The application crashes: while it decides, or at an accepted record."""
        if self.paused_until_us is not None:
            return  # not now: its effects wait for the end of the pause
        process = self.stepping
        assert process is not None
        if process.replica.leadership is None:
            self.deaths[process.topics.shard].on_crash(process.replica.position - 1)
        raise Killed(engine_only=True)

    def guard_of(self, shard: int) -> ApplyGuard:
        """For an engine that starts: with the deaths of those before it."""
        deaths = self.deaths[shard]
        fatal_offset = deaths.offset if deaths.count >= FATAL_DEATHS else NONE
        return ApplyGuard(deaths.mark, fatal_offset)

    def halt_engine(self, shard: int) -> None:
        """It does not go on, and is not restarted before the host is."""
        self.cluster.coverage.hit("engines halted at a fatal record")
        self.cluster.loop.trace(self.name, "halts its engine of shard %d", shard)
        process = self.processes[shard]
        self.cluster.on_engine_end(process)
        process.end()
        self.cluster.tripwires.on_engine_end(process)
        self._end_if_stopped()

    def guard(self, code: Callable[[], None], shard: int | None = None) -> None:
        """Run engine code, during which a scheduled fault may kill the host or the engine.

        `shard`: whose engine's code it is; None: of several.
        """
        try:
            code()
        except Killed as killed:
            if killed.engine_only and shard is not None:
                self.kill_engine(shard)
            else:
                self.kill()
            return
        except ApplicationFaulty as fault:
            assert shard is not None
            if isinstance(fault.__cause__, Violation):  # raised within `evolve`
                raise fault.__cause__ from None
            position = self.processes[shard].replica.position
            self.deaths[shard].an_engine_halts_at_its_third_death(fault, position - 1)
            self.halt_engine(shard)
            return
        self._end_if_stopped()

    def _end_if_stopped(self) -> None:
        if (
            self.alive
            and self.stopping
            and all(process.ended or process.runtime.stopped for process in self.processes)
        ):
            self.cluster.loop.at(self.clock_us(), self._exit, self.start_count)

    def _exit(self, start_count: int) -> None:
        if self.alive and self.start_count == start_count:
            self.end("stopped on request")

    # --- effects ----------------------------------------------------------------------------

    def perform(self, effect: str, action: Callable[..., None], *args: Any) -> None:
        """Carry out one effect: now, or when the host resumes, or never."""
        if self._deferred is not None:
            self._deferred.append((effect, action, args))
            return
        fault = self.scheduled_fault
        if fault is None or not fault.is_due(effect):
            action(*args)
            return
        self.scheduled_fault = None
        if fault.after:
            action(*args)
        self._trigger(fault)
        if not fault.after:
            assert self._deferred is not None
            self._deferred.append((effect, action, args))

    def _trigger(self, fault: ScheduledFault) -> None:
        if fault.pause_us is None:
            self.cluster.coverage.hit("kills between two effects")
            raise Killed(fault.engine_only)
        self.pause(fault.pause_us)

    # --- pauses -----------------------------------------------------------------------------

    def suspend(self, duration_us: int) -> None:
        """Pause the virtual machine: its monotonic clock stands still meanwhile."""
        if self.paused_until_us is None and self.alive:
            self.pause(duration_us)
            self.mono_offset_us -= (self.paused_until_us or 0) - self.paused_at_us
            self.cluster.coverage.hit("suspended machines")

    def pause(self, duration_us: int) -> None:
        """SIGSTOP now, SIGCONT after `duration_us`."""
        if self.paused_until_us is not None or not self.alive:
            return
        now_us = self.cluster.loop.now_us
        until_us = self.cluster.cap(now_us + duration_us)
        self.paused_at_us, self.paused_until_us = now_us, until_us
        self.resumed_ms = self.monotonic_ms()
        self._deferred = []
        self.cluster.coverage.hit("pauses")
        self.cluster.loop.trace(self.name, "is paused for %d ms", (until_us - now_us) // MS)
        for producer in self.producers:
            producer.on_pause()
        self.cluster.loop.at(until_us, self.resume, self.start_count)

    def resume(self, start_count: int) -> None:
        """SIGCONT: the deferred effects are carried out first."""
        until_us = self.paused_until_us
        if (
            start_count != self.start_count
            or until_us is None
            or until_us > self.cluster.loop.now_us
        ):
            return
        deferred, self._deferred, self.paused_until_us = self._deferred or [], None, None
        if deferred:
            self.cluster.coverage.hit("pauses between two effects")
        self.cluster.loop.trace(self.name, "resumes with %d deferred effects", len(deferred))
        waiting, self._when_running = self._when_running, []
        for action in waiting:
            action()
        self.guard(lambda: self._catch_up(deferred))

    def _catch_up(self, deferred: list[Deferred]) -> None:
        for effect, action, args in deferred:
            self.perform(effect, action, *args)

    def when_running(self, action: Callable[[], None]) -> None:
        """Call `action` at the end of the pause."""
        self._when_running.append(action)

    def monotonic_ms(self) -> int:
        return int((self.clock_us() + self.mono_offset_us) * (1.0 + self.drift)) // MS

    def clock_us(self) -> int:
        """Virtual time; during a pause the pause's end, at which code called now takes effect."""
        return self.paused_until_us or self.cluster.loop.now_us

    # --- connection to the broker -----------------------------------------------------------

    @property
    def reachable(self) -> bool:
        """Whether packets reach the broker and come back."""
        return not (self.cut or self.cluster.broker_unavailable)

    def reaches(self, topic: str) -> bool:
        """Whether packets of this topic reach the broker and come back."""
        return self.reachable and topic not in self.blocked

    def on_unreachable(self) -> None:
        for process in self.processes if self.alive else ():
            process.log.on_connection_lost()

    def when_reachable(self, action: Callable[..., None], *args: Any) -> None:
        """Call the action soon after the broker is reachable again."""
        self._when_reachable.append((action, args))

    def on_reachable(self) -> None:
        """Schedule the waiting actions, in order, if the broker is reachable again.

        Those that wait for a topic out of reach wait again.
        """
        if not self.reachable:
            return
        waiting, self._when_reachable = self._when_reachable, []
        loop = self.cluster.loop
        back_us = loop.now_us
        for action, args in waiting:
            back_us += loop.exponential(300)
            loop.at(back_us, self._if_alive, self.start_count, action, args)

    def _if_alive(
        self, start_count: int, action: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        if self.alive and self.start_count == start_count:
            action(*args)
