"""Snapshots in the middle of everything else."""

from __future__ import annotations

from tests.simulation.host import Host
from tests.simulation.journal_pipes import LOST
from tests.simulation.kernel import MS
from tests.simulation.scenarios.registry import scenario
from tests.simulation.snapshots import SnapshotDangers
from tests.simulation.stage import Stage


def _take(stage: Stage, host: Host, *, leader: bool = False) -> None:
    """Order one, and wait until it is in the store."""
    before = stage.count("snapshots taken")
    stage.simulation.keeper.order(host, 0, allow_leader=leader)
    stage.until(lambda: stage.count("snapshots taken") > before, 500, "it is taken")


def _grow(stage: Stage, commands: int) -> None:
    for _ in range(commands):
        stage.send()
        stage.run(1)
    stage.settle()


@scenario
def a_killed_replica_comes_back_from_the_newest_snapshot(stage: Stage) -> None:
    victim, other = stage.standbys
    for _ in range(2):
        _grow(stage, 10)
        _take(stage, other)
    _grow(stage, 5)
    victim.kill()
    stage.restart_dead()
    stage.settle()
    assert stage.count("restores from the newest snapshot") == 1


@scenario
def a_damaged_snapshot_is_passed_over_for_an_older_one(stage: Stage) -> None:
    victim, other = stage.standbys
    for _ in range(2):
        _grow(stage, 10)
        _take(stage, other)
    newest = stage.world.stores[0].snapshots[0]
    assert newest.data is not None
    newest.data = newest.data[:-1]
    victim.kill()
    stage.restart_dead()
    stage.settle()
    assert stage.count("restores from an older snapshot") == 1


@scenario
def all_dead_come_back_from_snapshots_and_lead(stage: Stage) -> None:
    _grow(stage, 10)
    _take(stage, stage.standbys[0])
    for host in stage.hosts:
        host.kill()
    stage.restart_dead()
    stage.settle(5_000)
    assert stage.count("restores from the newest snapshot") == 3
    _grow(stage, 5)


@scenario
def a_deposed_leader_with_void_entries_rebuilds_from_snapshot_and_tail(stage: Stage) -> None:
    old = stage.leader
    _grow(stage, 10)
    _take(stage, stage.standbys[0])
    stage.log(old).appends.fates.append(LOST)
    stage.send()
    stage.until(lambda: stage.count("appends lost") == 1, 50, "the entry is lost")
    old.pause(700 * MS)
    stage.settle(5_000)
    assert stage.count("rebuilds") == 1
    assert stage.count("restores from the newest snapshot") == 1
    assert stage.leader is not old


@scenario
def a_takeover_does_not_wait_for_a_snapshot_and_does_not_spoil_it(stage: Stage) -> None:
    taker, other = stage.standbys
    _grow(stage, 10)
    other.kill()  # so that the taker is the one that takes over
    stage.world.profile.snapshots.store_us = 300 * MS
    stage.simulation.keeper.order(taker, 0, allow_leader=False)
    stage.run(5)
    assert stage.seat(taker).snapshots.is_taking
    stage.leader.kill()
    stage.until(lambda: stage.world.leader(0) is taker, 100, "the taker leads")
    stage.send()
    stage.until(lambda: stage.count("snapshots taken") == 1, 5_000, "it is stored all the same")
    assert stage.count("snapshots over a takeover") == 1
    stage.restart_dead()
    stage.settle(5_000)
    assert stage.count("restores from the newest snapshot") == 2


@scenario
def a_leaders_snapshot_is_of_a_moment_with_nothing_in_flight(stage: Stage) -> None:
    for _ in range(20):
        stage.send()
        stage.run(0.3)
    stage.simulation.keeper.order(stage.leader, 0, allow_leader=True)
    for _ in range(20):
        stage.send()
        stage.run(0.3)
    stage.settle()
    assert (stage.count("snapshots of a leader"), stage.count("snapshots taken")) == (1, 1)


@scenario
def a_replica_that_dies_while_it_takes_a_snapshot_leaves_none(stage: Stage) -> None:
    taker = stage.standbys[0]
    stage.world.profile.snapshots.store_us = 300 * MS
    stage.simulation.keeper.order(taker, 0, allow_leader=False)
    stage.run(5)
    taker.kill()
    stage.run(2_000)
    assert stage.world.stores[0].snapshots == []
    stage.restart_dead()
    stage.settle()


@scenario
def a_replica_overtaken_by_trimming_begins_anew_from_a_snapshot(stage: Stage) -> None:
    sleeper, other = stage.standbys
    _grow(stage, 3)
    stage.log(sleeper).journal.hold()
    for _ in range(2):
        for _ in range(10):
            stage.send()
            stage.run(1)
        _take(stage, other)
    stage.simulation.keeper.trim(0)
    assert stage.count("journals trimmed") == 1
    stage.log(sleeper).journal.release()
    stage.settle(6_000)
    assert stage.count("readers overtaken by trimming") == 1
    assert stage.count("restores from the newest snapshot") == 1


@scenario
def slow_restores_do_not_hold_up_those_that_lead(stage: Stage) -> None:
    victim, other = stage.standbys
    _grow(stage, 10)
    _take(stage, other)
    stage.world.profile.snapshots = SnapshotDangers(restore_us=2_000 * MS)
    victim.kill()
    victim.start()
    published = stage.published
    for _ in range(20):
        stage.send()
        stage.run(2)
    assert stage.published >= published + 15
    stage.settle(20_000)
