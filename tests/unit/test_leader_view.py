"""The cluster view as a fold of statuses, and the updater that writes it to a store."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.kafka.follower import Follower
from postjournal.adapters.redis.cluster_view import ViewContents
from postjournal.cluster.status import Failover, ReplicaStatus, StatusRecord
from postjournal.cluster.view import MAX_FAILOVERS, ClusterView
from services.leader_view.rendering import render, stream_id
from services.leader_view.view_updater import ViewUpdater

NOW = 1_000_000_000


def status(name: str, state: str, epoch: int, leader: str | None, **changes: Any) -> ReplicaStatus:
    fields: dict[str, Any] = {
        "replica": name,
        "incarnation": f"{name}-first",
        "pid": 1,
        "shard": 0,
        "state": state,
        "epoch": epoch,
        "leader": leader,
        "leader_address": f"{leader}:7071" if leader else None,
        "since": epoch * 100,
        "seq": epoch * 10,
        "digest": f"d{epoch}",
        "lag": 0,
        "lag_s": 0.0,
        "http": f"{name}:7070",
        "tripwire": f"{name}:7071",
        "time": NOW,
    }
    return ReplicaStatus(**fields | changes)


def failover(epoch: int, time: int, shard: int = 0) -> Failover:
    return Failover(
        shard=shard,
        epoch=epoch,
        previous="r1",
        leader="r2",
        cause="tripwire",
        detect_ms=3.0,
        claim_ms=4.0,
        resume_ms=5.0,
        total_ms=12.0,
        time=time,
    )


def view_of(*records: StatusRecord) -> ClusterView:
    view = ClusterView()
    for i, record in enumerate(records):
        view.apply(record, NOW + i)
    return view


# --- shards ---------------------------------------------------------------------------------


def test_a_status_of_a_lower_epoch_never_overwrites_a_higher_one() -> None:
    view = view_of(status("r2", "leader", 2, "r2"), status("r1", "leader", 1, "r1", seq=99))
    assert (view.shards[0].leader, view.shards[0].epoch) == ("r2", 2)


def test_the_leaders_own_status_counts_for_its_state_and_since() -> None:
    view = view_of(
        status("r1", "leader", 1, "r1", since=100),
        status("r2", "standby", 1, "r1", since=777),
    )
    assert (view.shards[0].state, view.shards[0].since) == ("leader", 100)


def test_a_shard_whose_leader_has_resigned_has_no_leader_in_that_epoch() -> None:
    view = view_of(
        status("r1", "leader", 1, "r1"),
        status("r1", "resigning", 1, None),
        status("r2", "standby", 1, "r1"),  # has not read the resignation yet
    )
    assert (view.shards[0].leader, view.shards[0].state) == (None, "no_leader")


def test_a_replica_that_lags_does_not_reset_the_sequence() -> None:
    view = view_of(
        status("r1", "leader", 1, "r1", seq=50, digest="new"),
        status("r2", "standby", 1, "r1", seq=40, digest="old"),
    )
    assert (view.shards[0].seq, view.shards[0].digest) == (50, "new")


def test_counters_do_not_count_as_a_change() -> None:
    view = view_of(status("r1", "leader", 1, "r1"))
    assert not view.apply(status("r1", "leader", 1, "r1", seq=99), NOW)
    assert view.apply(status("r1", "halted", 1, "r1", error="evolve"), NOW)


@given(st.lists(st.tuples(st.sampled_from(["r1", "r2"]), st.integers(0, 4)), min_size=1))
def test_the_epoch_of_a_shard_only_grows(statuses: list[tuple[str, int]]) -> None:
    view, highest = ClusterView(), 0
    for name, epoch in statuses:
        view.apply(status(name, "leader", epoch, name), NOW)
        highest = max(highest, epoch)
        assert view.shards[0].epoch == highest


# --- replicas -------------------------------------------------------------------------------


def test_two_running_processes_with_one_name_are_distinguished_from_a_restart() -> None:
    old, new = (status("r1", "standby", 1, None, incarnation=name) for name in ("old", "new"))
    assert not view_of(old, old, new, new).replicas["r1", 0].is_duplicate(NOW + 4)
    assert view_of(old, new, old).replicas["r1", 0].is_duplicate(NOW + 4)


def test_the_mark_is_removed_when_only_one_of_them_is_left() -> None:
    old, new = (status("r1", "standby", 1, None, incarnation=name) for name in ("old", "new"))
    replica = view_of(old, new, old).replicas["r1", 0]
    assert not replica.is_duplicate(NOW + 6_000)


def test_a_replica_without_a_status_is_silent_and_then_forgotten() -> None:
    view = view_of(status("r1", "standby", 1, None))
    assert not view.replicas["r1", 0].is_silent(NOW + 5_000)
    assert view.replicas["r1", 0].is_silent(NOW + 5_001)
    view.forget_absent(NOW + 600_001)
    assert view.replicas == {}


# --- failovers ------------------------------------------------------------------------------


def test_a_failover_that_is_reported_twice_is_counted_once() -> None:
    view = view_of(failover(2, 50), failover(2, 50))
    assert len(view.failovers) == 1


def test_failovers_of_all_shards_are_in_the_order_of_their_times() -> None:
    view = view_of(failover(2, 50), failover(3, 70), failover(2, 60, shard=1))
    assert [kept.time for kept in view.failovers] == [50, 60, 70]


def test_the_last_thousand_failovers_are_kept() -> None:
    view = view_of(*(failover(n, n) for n in range(1, 2_502)))
    view.forget_absent(NOW)
    assert len(view.failovers) == MAX_FAILOVERS
    assert view.failovers[-1].epoch == 2_501


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2)), unique=True))
def test_every_failover_has_an_entry_of_its_own_in_order(
    failovers: list[tuple[int, int, int]],
) -> None:
    view = view_of(*(failover(epoch, time, shard) for epoch, time, shard in failovers))
    ids = [tuple(map(int, stream_id(kept).split("-"))) for kept in view.failovers]
    assert ids == sorted(set(ids))


# --- the updater ----------------------------------------------------------------------------


@dataclass
class FakeTopic:
    batches: list[list[TopicRecord]] = field(default_factory=list)
    is_open: bool = True
    is_caught_up: bool = True
    unavailable_reason: str | None = None

    def open(self) -> bool:
        return True

    def poll(self, timeout_s: float) -> list[TopicRecord]:
        return self.batches.pop(0) if self.batches else []

    def put(self, *records: StatusRecord, seen: int = NOW) -> None:
        self.batches.append(
            [TopicRecord(0, 0, None, msgspec.json.encode(record), seen) for record in records]
        )

    def close(self) -> None:
        pass


@dataclass
class FakeStore:
    written: list[ViewContents] = field(default_factory=list)
    is_unavailable: bool = False

    def sync(self, contents: ViewContents) -> None:
        if self.is_unavailable:
            raise redis.ConnectionError("refused")
        self.written.append(contents)


@dataclass
class Scenario:
    topic: FakeTopic = field(default_factory=FakeTopic)
    store: FakeStore = field(default_factory=FakeStore)
    now: int = NOW

    def __post_init__(self) -> None:
        self.counted: list[Failover] = []
        updater = ViewUpdater(
            self.topic, self.store, lambda: self.now, "Redis", self.counted.append
        )
        self.follower = Follower("status", self.topic, updater.apply, needs_history=True)

    def step(self, ms: int = 0) -> None:
        self.now += ms
        self.follower.step(0)


@pytest.fixture
def scenario() -> Scenario:
    return Scenario()


def test_nothing_is_written_before_the_end_of_the_topic_is_reached(scenario: Scenario) -> None:
    scenario.topic.is_caught_up = False
    scenario.topic.put(status("r1", "leader", 1, "r1"))
    scenario.topic.put(status("r2", "leader", 2, "r2"))
    scenario.step()
    assert scenario.store.written == []
    scenario.topic.is_caught_up = True
    scenario.step()
    assert [contents.shards[0]["leader"] for contents in scenario.store.written] == ["r2"]


def test_a_new_leader_is_written_at_once(scenario: Scenario) -> None:
    scenario.step()
    scenario.topic.put(status("r1", "leader", 1, "r1"))
    scenario.step(ms=1)
    assert scenario.store.written[-1].shards[0]["leader"] == "r1"


def test_counters_are_written_twice_a_second(scenario: Scenario) -> None:
    scenario.topic.put(status("r1", "leader", 1, "r1"))
    scenario.step()
    for ms in (100, 100, 300):
        scenario.topic.put(status("r1", "leader", 1, "r1", seq=scenario.now))
        scenario.step(ms)
    assert len(scenario.store.written) == 2


def test_a_redis_that_was_unavailable_gets_everything_at_once(scenario: Scenario) -> None:
    scenario.store.is_unavailable = True
    scenario.topic.put(status("r1", "leader", 1, "r1"), failover(1, NOW))
    scenario.step()
    scenario.store.is_unavailable = False
    scenario.step(ms=500)
    (contents,) = scenario.store.written
    assert contents.shards[0]["leader"] == "r1"
    assert len(contents.failovers) == 1


def test_old_statuses_are_skipped_and_old_failovers_are_applied(scenario: Scenario) -> None:
    scenario.topic.put(status("r9", "standby", 1, None), failover(1, 5), seen=NOW - 400_000)
    scenario.step()
    assert scenario.store.written[-1].replicas == {}
    assert len(scenario.store.written[-1].failovers) == 1


def test_only_failovers_after_the_start_are_counted(scenario: Scenario) -> None:
    """The process before this one has counted the earlier failovers."""
    scenario.topic.put(failover(1, NOW - 1), seen=NOW - 1)
    scenario.topic.put(failover(2, NOW + 1), seen=NOW + 1)
    scenario.step()
    scenario.step()
    assert [kept.epoch for kept in scenario.counted] == [2]


def test_two_processes_with_one_name_cause_one_warning_and_are_marked(
    scenario: Scenario, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = (status("r1", "standby", 1, None, incarnation=name) for name in ("old", "new"))
    scenario.topic.put(old, new, old)
    with caplog.at_level(logging.WARNING):
        scenario.step()
        scenario.step(ms=500)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "r1" in caplog.text
    assert scenario.store.written[-1].replicas["r1/0"]["duplicate_name"] is True


def test_a_record_of_another_kind_is_skipped(scenario: Scenario) -> None:
    scenario.topic.batches.append([TopicRecord(0, 0, None, b"{}", NOW)])
    scenario.topic.put(status("r1", "leader", 1, "r1"))
    scenario.step()
    scenario.step(ms=500)
    assert scenario.store.written[-1].shards[0]["leader"] == "r1"


def test_absent_values_are_written_as_empty_text() -> None:
    contents = render(view_of(status("r1", "standby", 1, None)), NOW)
    assert contents.shards[0]["leader"] == ""
    assert all(isinstance(value, str) for value in contents.shards[0].values())
