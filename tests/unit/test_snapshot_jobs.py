"""The coordinator's jobs and rules: whom to ask, when to ask another, what is due and kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from postjournal.cluster.status import ReplicaStatus, SnapshotOrder, SnapshotProgress
from postjournal.cluster.view import ClusterView
from postjournal.core.snapshot.manifest import Manifest
from services.coordinator import policy
from services.coordinator.jobs import (
    ANSWER_MS,
    GIVE_UP_MS,
    LOST_MS,
    MAX_ATTEMPTS,
    PAUSE_MS,
    STALL_MS,
    GiveUp,
    Job,
    JobBook,
    TryAgain,
    candidates,
    first_order,
    next_step,
)
from services.coordinator.policy import Schedule

NOW = 1_000_000


def status(name: str, state: str = "standby", **changes: Any) -> ReplicaStatus:
    told = ReplicaStatus(
        replica=name,
        incarnation=f"{name}-1",
        pid=1,
        shard=0,
        state=state,
        epoch=1,
        leader="a",
        leader_address=None,
        since=0,
        seq=0,
        digest="",
        lag=0,
        lag_s=0.0,
        http="",
        tripwire="",
        time=NOW,
    )
    return msgspec.structs.replace(told, **changes)


def cluster(*statuses: ReplicaStatus, seen: int = NOW) -> ClusterView:
    view = ClusterView()
    for each in statuses:
        view.apply(each, seen)
    return view


LEADER, B, C = status("a", "leader"), status("b"), status("c")


def order(replica: str = "b", attempt: int = 1, **changes: Any) -> SnapshotOrder:
    made = SnapshotOrder(id="s", shard=0, replica=replica, attempt=attempt, asked=NOW, time=NOW)
    return msgspec.structs.replace(made, **changes)


def progress(state: str, replica: str = "b", attempt: int = 1, **changes: Any) -> SnapshotProgress:
    told = SnapshotProgress(
        id="s",
        shard=0,
        replica=replica,
        incarnation=f"{replica}-1",
        attempt=attempt,
        state=state,
        time=NOW,
    )
    return msgspec.structs.replace(told, **changes)


def job(*records: SnapshotOrder | SnapshotProgress, seen: int = NOW) -> Job:
    book = JobBook()
    for record in records:
        if isinstance(record, SnapshotOrder):
            book.on_order(record, seen)
        else:
            book.on_progress(record, seen)
    return book.jobs["s", 0]


# --- whom to ask ---------------------------------------------------------------------------------


def test_a_standby_is_asked_and_no_leader() -> None:
    asked = first_order("s", 0, cluster(LEADER, C, B), NOW, allow_leader=False)
    assert asked is not None
    assert (asked.replica, asked.attempt) == ("b", 1)


def test_without_a_standby_there_is_nobody_to_ask_but_the_leader_if_allowed() -> None:
    view = cluster(LEADER)
    assert first_order("s", 0, view, NOW, allow_leader=False) is None
    asked = first_order("s", 0, view, NOW, allow_leader=True)
    assert asked is not None
    assert (asked.replica, asked.allow_leader) == ("a", True)


@pytest.mark.parametrize(
    "other",
    [
        status("b", "catching_up"),
        status("b", "reader"),
        status("b", "restoring"),
        status("b", lag_s=60.0),
        status("b", shard=1),
    ],
)
def test_only_in_sync_standbys_of_the_shard_are_asked(other: ReplicaStatus) -> None:
    assert candidates(cluster(LEADER, other), 0, NOW, allow_leader=False) == []


def test_a_silent_standby_is_not_asked() -> None:
    assert candidates(cluster(B), 0, NOW + 6_000, allow_leader=False) == []


def test_the_standby_with_the_smallest_lag_is_asked_first() -> None:
    view = cluster(status("b", lag=10), status("c", lag=0))
    assert candidates(view, 0, NOW, allow_leader=False) == ["c", "b"]


# --- further attempts ----------------------------------------------------------------------------


def test_a_fresh_order_is_waited_for() -> None:
    assert next_step(job(order()), cluster(LEADER, B, C), NOW + 1_000) is None


def test_an_order_without_an_answer_goes_to_another() -> None:
    now = NOW + ANSWER_MS + 1
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


def test_the_only_standby_is_asked_again_after_a_pause() -> None:
    the_job, view = job(order(), progress("failed", error="x")), cluster(LEADER, B)
    assert next_step(the_job, view, NOW + PAUSE_MS - 1) is None
    step = next_step(the_job, view, NOW + PAUSE_MS)
    assert isinstance(step, TryAgain)
    assert step.order.replica == "b"


def test_a_replica_that_died_is_replaced() -> None:
    now = NOW + 6_000
    view = cluster(LEADER, C, seen=now)
    view.apply(B, NOW)
    step = next_step(job(order(), progress("writing"), seen=NOW), view, now)
    assert isinstance(step, TryAgain)
    assert (step.order.replica, step.reason) == ("c", "b is silent")


def test_a_replica_that_started_again_has_forgotten_the_snapshot() -> None:
    the_job = job(order(), progress("writing"))
    view = cluster(LEADER, status("b", incarnation="b-2"), seen=NOW + PAUSE_MS)
    step = next_step(the_job, view, NOW + PAUSE_MS)
    assert isinstance(step, TryAgain)
    assert "started again" in step.reason


def test_one_that_gets_on_is_left_alone_and_one_that_does_not_is_replaced() -> None:
    the_job = job(order(), progress("writing", written=5))
    now = NOW + STALL_MS
    assert next_step(the_job, cluster(B, C, seen=now), now) is None
    step = next_step(the_job, cluster(B, C, seen=now + 1), now + 1)
    assert isinstance(step, TryAgain)
    assert "not got on" in step.reason


def test_after_many_attempts_it_is_given_up() -> None:
    records: list[Any] = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        records += [order(attempt=attempt), progress("failed", attempt=attempt, error="no")]
    step = next_step(job(*records), cluster(LEADER, B, C), NOW + 60_000)
    assert isinstance(step, GiveUp)
    assert "b: no" in step.reason


def test_without_a_standby_it_waits_and_then_gives_up() -> None:
    the_job = job(order(), progress("failed", error="x"))
    view = cluster(LEADER)
    assert next_step(the_job, view, NOW + GIVE_UP_MS) is None
    assert isinstance(next_step(the_job, view, NOW + GIVE_UP_MS + 1), GiveUp)


# --- what the records add up to ------------------------------------------------------------------


def test_two_coordinators_orders_for_one_attempt_count_once() -> None:
    the_job = job(order("b"), order("c"))
    assert [each.order.replica for each in the_job.attempts] == ["b"]
    done = job(order("b"), order("c"), progress("done", "c"))
    assert not done.is_open, "whoever took it, it is there"


def test_progress_that_is_read_before_its_order_is_not_lost() -> None:
    the_job = job(progress("writing", written=7), order())
    assert the_job.latest.progress is not None
    assert the_job.latest.progress.written == 7


def test_progress_of_a_later_attempt_waits_for_its_order() -> None:
    the_job = job(progress("writing", "c", 2, written=7), order(), order("c", 2))
    assert the_job.latest.progress is not None
    assert the_job.latest.progress.written == 7


def test_an_old_order_of_which_nothing_was_heard_is_forgotten() -> None:
    """Its `done` may be further back than the status topic is read."""
    book = JobBook()
    book.on_order(order(), NOW)
    book.forget_lost(NOW + LOST_MS)
    assert book.open_jobs()
    book.forget_lost(NOW + LOST_MS + 1)
    assert book.jobs == {}


def test_an_old_order_whose_failure_is_known_is_not_forgotten() -> None:
    book = JobBook()
    book.on_order(order(), NOW)
    book.on_progress(progress("failed"), NOW)
    book.on_order(order("c", 2), NOW)
    book.forget_lost(NOW + LOST_MS + 1)
    assert book.open_jobs()


def test_what_is_given_up_for_want_of_a_standby_is_told_before_it_is_forgotten() -> None:
    book = JobBook()
    book.on_order(order(), NOW)
    book.forget_lost(NOW + GIVE_UP_MS + 1)
    (the_job,) = book.open_jobs()
    assert isinstance(next_step(the_job, cluster(LEADER), NOW + GIVE_UP_MS + 1), GiveUp)


def test_an_old_attempts_failure_does_not_end_the_next_one() -> None:
    the_job = job(order(), order("c", 2), progress("failed"), progress("writing", "c", 2))
    assert the_job.latest.progress is not None
    assert the_job.latest.progress.state == "writing"


def test_a_coordinator_that_starts_late_goes_on_with_the_latest_attempt() -> None:
    """The first orders are no longer in the topic."""
    the_job = job(order("c", 3))
    assert the_job.latest.order.attempt == 3


def test_ended_jobs_are_forgotten_some_day() -> None:
    book = JobBook()
    for number in range(1_000):
        book.on_order(order(id=f"s{number}"), NOW)
        book.on_progress(progress("done", id=f"s{number}"), NOW)
    book.on_order(order(id="open"), NOW)
    assert len(book.jobs) < 300
    assert [each.id for each in book.open_jobs(0)] == ["open"]


# --- schedule, retention, trimming ---------------------------------------------------------------

MINUTE = 60_000


def snapshot(offset: int, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "format": 1,
        "id": f"at-{offset}",
        "object": f"o-{offset}",
        "application": "Ledger",
        "schema_version": 1,
        "shard": 0,
        "shards": 1,
        "epoch": 1,
        "offset": offset,
        "record_digest": "",
        "seq": offset * 2,
        "digest": "",
        "sources": {},
        "sinks": {"results": offset * 2},
        "published": {"results": offset * 2},
        "journal_time": 0,
        "sha256": "",
        "size": 1,
        "content_size": 1,
        "replica": "b",
        "time": NOW,
        "duration_ms": 1,
    }
    return Manifest(**(fields | changes))


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


def test_all_coordinators_give_one_id_to_one_occasion() -> None:
    """Whenever they started: the newest snapshot and the time decide."""
    ids = {Schedule(10, 0).due(snapshot(7), 5, NOW + 20 * MINUTE, since) for since in (0, 5, NOW)}
    assert len(ids) == 1


def test_the_newest_are_kept_and_those_that_are_being_read() -> None:
    snapshots = [snapshot(offset) for offset in (50, 40, 30, 20, 10)]
    surplus = policy.surplus(snapshots, 2, reading={"at-20"})
    assert [each.offset for each in surplus] == [30, 10]


def test_trimming_keeps_what_the_oldest_snapshot_needs() -> None:
    anchor = policy.trim_anchor([snapshot(50), snapshot(40), snapshot(30)])
    assert anchor is not None
    assert anchor.offset == 30


def test_a_single_snapshot_is_no_reason_to_trim() -> None:
    assert policy.trim_anchor([snapshot(50)]) is None


def test_nothing_is_trimmed_that_a_sink_has_yet_to_publish() -> None:
    behind = snapshot(50, published={"results": 59})
    assert policy.trim_anchor([behind, snapshot(30)]) is None
    level = snapshot(50, published={"results": 60})
    assert policy.trim_anchor([level, snapshot(30)]) is not None
