"""The coordinator's snapshot jobs, schedule, retention and trimming."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from postjournal.cluster.status import ReplicaStatus, SnapshotOrder, SnapshotProgress
from postjournal.cluster.view import ClusterView
from postjournal.core.snapshot.manifest import Manifest
from services.coordinator import policy
from services.coordinator.jobs import (
    ANSWER_TIMEOUT_MS,
    GIVE_UP_MS,
    LOST_MS,
    MAX_ATTEMPTS,
    RETRY_PAUSE_MS,
    STALL_TIMEOUT_MS,
    GiveUp,
    Job,
    JobTable,
    TryAgain,
    candidates,
    first_order,
    next_step,
)
from services.coordinator.policy import Schedule
from tests.support.coordinator import make_manifest, replica_status

NOW = 1_000_000


def cluster(*statuses: ReplicaStatus, seen: int = NOW) -> ClusterView:
    view = ClusterView()
    for status in statuses:
        view.apply(status, seen)
    return view


LEADER, B, C = replica_status("a", "leader"), replica_status("b"), replica_status("c")


def order(replica: str = "b", attempt: int = 1, **changes: Any) -> SnapshotOrder:
    order = SnapshotOrder(id="s", shard=0, replica=replica, attempt=attempt, asked=NOW, time=NOW)
    return msgspec.structs.replace(order, **changes)


def progress(state: str, replica: str = "b", attempt: int = 1, **changes: Any) -> SnapshotProgress:
    progress = SnapshotProgress(
        id="s",
        shard=0,
        replica=replica,
        incarnation=f"{replica}-1",
        attempt=attempt,
        state=state,
        time=NOW,
    )
    return msgspec.structs.replace(progress, **changes)


def job(*records: SnapshotOrder | SnapshotProgress, seen: int = NOW) -> Job:
    table = JobTable()
    for record in records:
        if isinstance(record, SnapshotOrder):
            table.on_order(record, seen)
        else:
            table.on_progress(record, seen)
    return table.jobs["s", 0]


# --- first attempts ------------------------------------------------------------------------------


def test_a_snapshot_is_ordered_from_a_standby_and_not_from_the_leader() -> None:
    order = first_order("s", 0, cluster(LEADER, C, B), NOW, allow_leader=False)
    assert order is not None
    assert (order.replica, order.attempt) == ("b", 1)


def test_without_a_standby_the_leader_takes_the_snapshot_if_allowed() -> None:
    view = cluster(LEADER)
    assert first_order("s", 0, view, NOW, allow_leader=False) is None
    order = first_order("s", 0, view, NOW, allow_leader=True)
    assert order is not None
    assert (order.replica, order.allow_leader) == ("a", True)


@pytest.mark.parametrize(
    "other",
    [
        replica_status("b", "catching_up"),
        replica_status("b", "reader"),
        replica_status("b", "restoring"),
        replica_status("b", lag_s=60.0),
        replica_status("b", shard=1),
    ],
)
def test_only_in_sync_standbys_of_the_shard_take_snapshots(other: ReplicaStatus) -> None:
    assert candidates(cluster(LEADER, other), 0, NOW, allow_leader=False) == []


def test_a_silent_standby_takes_no_snapshot() -> None:
    assert candidates(cluster(B), 0, NOW + 6_000, allow_leader=False) == []


def test_the_standby_with_the_smallest_lag_is_the_first_choice() -> None:
    view = cluster(replica_status("b", lag=10), replica_status("c", lag=0))
    assert candidates(view, 0, NOW, allow_leader=False) == ["c", "b"]


# --- further attempts ----------------------------------------------------------------------------


def test_a_new_order_is_given_time() -> None:
    assert next_step(job(order()), cluster(LEADER, B, C), NOW + 1_000) is None


def test_an_order_without_an_answer_is_followed_by_another_standby() -> None:
    now = NOW + ANSWER_TIMEOUT_MS + 1
    step = next_step(job(order()), cluster(LEADER, B, C, seen=now), now)
    assert isinstance(step, TryAgain)
    assert (step.order.replica, step.order.attempt, step.order.asked) == ("c", 2, NOW)
    assert "did not answer" in step.reason


def test_a_failed_attempt_is_followed_at_once_by_another_standby() -> None:
    failed = progress("failed", error="disk full")
    step = next_step(job(order(), failed), cluster(LEADER, B, C), NOW)
    assert isinstance(step, TryAgain)
    assert step.order.replica == "c"
    assert step.reason == "b: disk full"


def test_the_only_standby_gets_another_order_after_a_pause() -> None:
    the_job, view = job(order(), progress("failed", error="x")), cluster(LEADER, B)
    assert next_step(the_job, view, NOW + RETRY_PAUSE_MS - 1) is None
    step = next_step(the_job, view, NOW + RETRY_PAUSE_MS)
    assert isinstance(step, TryAgain)
    assert step.order.replica == "b"


def test_a_replica_that_died_is_replaced() -> None:
    now = NOW + 6_000
    view = cluster(LEADER, C, seen=now)
    view.apply(B, NOW)
    step = next_step(job(order(), progress("writing"), seen=NOW), view, now)
    assert isinstance(step, TryAgain)
    assert (step.order.replica, step.reason) == ("c", "b is silent")


def test_an_attempt_fails_when_its_replica_restarts() -> None:
    the_job = job(order(), progress("writing"))
    view = cluster(LEADER, replica_status("b", incarnation="b-2"), seen=NOW + RETRY_PAUSE_MS)
    step = next_step(the_job, view, NOW + RETRY_PAUSE_MS)
    assert isinstance(step, TryAgain)
    assert "restarted" in step.reason


def test_an_attempt_fails_after_a_time_without_progress() -> None:
    the_job = job(order(), progress("writing", written=5))
    now = NOW + STALL_TIMEOUT_MS
    assert next_step(the_job, cluster(B, C, seen=now), now) is None
    step = next_step(the_job, cluster(B, C, seen=now + 1), now + 1)
    assert isinstance(step, TryAgain)
    assert "no progress for 150 s" in step.reason


def test_a_job_is_given_up_after_many_attempts() -> None:
    records: list[Any] = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        records += [order(attempt=attempt), progress("failed", attempt=attempt, error="no")]
    step = next_step(job(*records), cluster(LEADER, B, C), NOW + 60_000)
    assert isinstance(step, GiveUp)
    assert "b: no" in step.reason


def test_a_job_without_a_standby_waits_before_it_is_given_up() -> None:
    the_job = job(order(), progress("failed", error="x"))
    view = cluster(LEADER)
    assert next_step(the_job, view, NOW + GIVE_UP_MS) is None
    assert isinstance(next_step(the_job, view, NOW + GIVE_UP_MS + 1), GiveUp)


# --- the fold over the records -------------------------------------------------------------


def test_two_coordinators_orders_for_one_attempt_count_once() -> None:
    the_job = job(order("b"), order("c"))
    assert [attempt.order.replica for attempt in the_job.attempts] == ["b"]
    done = job(order("b"), order("c"), progress("done", "c"))
    assert not done.is_open, "it is done, whichever replica took it"


def test_progress_that_is_read_before_its_order_is_not_lost() -> None:
    the_job = job(progress("writing", written=7), order())
    assert the_job.latest.progress is not None
    assert the_job.latest.progress.written == 7


def test_progress_of_a_later_attempt_waits_for_its_order() -> None:
    the_job = job(progress("writing", "c", 2, written=7), order(), order("c", 2))
    assert the_job.latest.progress is not None
    assert the_job.latest.progress.written == 7


def test_an_old_order_without_progress_is_forgotten() -> None:
    """Its record with the state done may precede the part of the status topic that is read."""
    table = JobTable()
    table.on_order(order(), NOW)
    table.forget_lost(NOW + LOST_MS)
    assert table.open_jobs()
    table.forget_lost(NOW + LOST_MS + 1)
    assert table.jobs == {}


def test_an_old_order_with_progress_is_not_forgotten() -> None:
    table = JobTable()
    table.on_order(order(), NOW)
    table.on_progress(progress("failed"), NOW)
    table.on_order(order("c", 2), NOW)
    table.forget_lost(NOW + LOST_MS + 1)
    assert table.open_jobs()


def test_a_job_without_a_standby_is_given_up_before_it_is_forgotten() -> None:
    table = JobTable()
    table.on_order(order(), NOW)
    table.forget_lost(NOW + GIVE_UP_MS + 1)
    (the_job,) = table.open_jobs()
    assert isinstance(next_step(the_job, cluster(LEADER), NOW + GIVE_UP_MS + 1), GiveUp)


def test_an_old_attempts_failure_does_not_end_the_next_one() -> None:
    the_job = job(order(), order("c", 2), progress("failed"), progress("writing", "c", 2))
    assert the_job.latest.progress is not None
    assert the_job.latest.progress.state == "writing"


def test_a_job_starts_with_the_first_attempt_that_is_in_the_topic() -> None:
    """Kafka has deleted the orders before it."""
    the_job = job(order("c", 3))
    assert the_job.latest.order.attempt == 3


def test_the_number_of_ended_jobs_is_limited() -> None:
    table = JobTable()
    for number in range(1_000):
        table.on_order(order(id=f"s{number}"), NOW)
        table.on_progress(progress("done", id=f"s{number}"), NOW)
    table.on_order(order(id="open"), NOW)
    assert len(table.jobs) < 300
    assert [job.id for job in table.open_jobs(0)] == ["open"]


# --- schedule, retention, trimming ---------------------------------------------------------------

MINUTE = 60_000


def snapshot(offset: int, **changes: Any) -> Manifest:
    return make_manifest(offset, **({"time": NOW} | changes))


def test_a_snapshot_is_due_after_minutes_or_commands_whichever_comes_first() -> None:
    schedule, newest = Schedule(10, 1_000), snapshot(100)
    assert schedule.due(newest, 300, NOW + 10 * MINUTE - 1, 0) is None
    assert schedule.due(newest, 300, NOW + 10 * MINUTE, 0)
    assert schedule.due(newest, 1_199, NOW, 0) is None
    assert schedule.due(newest, 1_200, NOW, 0)


def test_a_rule_that_is_off_never_fires() -> None:
    assert Schedule(0, 0).due(None, 10**9, NOW + 10**9, 0) is None


def test_without_any_snapshot_minutes_count_from_the_coordinators_start() -> None:
    assert Schedule(10, 0).due(None, 5, NOW + 9 * MINUTE, NOW) is None
    assert Schedule(10, 0).due(None, 5, NOW + 10 * MINUTE, NOW)


def test_all_coordinators_compute_the_same_id() -> None:
    """Whenever they started: the newest snapshot and the time decide."""
    ids = {Schedule(10, 0).due(snapshot(7), 5, NOW + 20 * MINUTE, since) for since in (0, 5, NOW)}
    assert len(ids) == 1


def test_the_newest_snapshots_are_retained_and_those_in_use() -> None:
    snapshots = [snapshot(offset) for offset in (50, 40, 30, 20, 10)]
    surplus = policy.surplus(snapshots, 2, in_use={"at-20"})
    assert [snapshot.offset for snapshot in surplus] == [30, 10]


def test_the_journal_is_trimmed_before_the_oldest_snapshot() -> None:
    anchor = policy.trim_anchor([snapshot(50), snapshot(40), snapshot(30)])
    assert anchor is not None
    assert anchor.offset == 30


def test_nothing_is_trimmed_with_a_single_snapshot() -> None:
    assert policy.trim_anchor([snapshot(50)]) is None


def test_nothing_is_trimmed_before_a_sink_has_published_its_outputs() -> None:
    behind = snapshot(50, published={"results": 59})
    assert policy.trim_anchor([behind, snapshot(30)]) is None
    level = snapshot(50, published={"results": 60})
    assert policy.trim_anchor([level, snapshot(30)]) is not None
