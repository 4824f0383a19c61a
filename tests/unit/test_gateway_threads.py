"""The gateway's result follower and replica directory on a fake topic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import msgspec
import pytest

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.cluster.status import ReplicaStatus
from postjournal.core.errors import ConfigurationError, JournalUnavailable, ShardCountMismatch
from services.producer import kafka_results
from services.producer.directory import StatusDirectory
from services.producer.kafka_results import ResultFollower
from services.producer.metrics import Metrics
from services.producer.ports import TooBusy, Unavailable


class FakeTopic:
    """Returns the records that the test puts in; `calls` has the method calls."""

    def __init__(self) -> None:
        self.records: SimpleQueue[TopicRecord] = SimpleQueue()
        self.calls: list[str] = []
        self.is_open = False
        self.may_open = True
        self.unavailable_reason: str | None = None
        self.is_caught_up = False
        self.error: Exception | None = None

    def put(self, value: bytes, shard: int = 0, clock_ms: int = 0) -> None:
        """`clock_ms`: how much Kafka's clock is ahead of ours."""
        stamp_ms = time.time_ns() // 1_000_000 + clock_ms
        self.records.put(TopicRecord(shard, 0, None, value, stamp_ms))

    def open(self) -> bool:
        if isinstance(self.error, ConfigurationError):
            raise self.error
        if not self.may_open:
            time.sleep(0.001)
        self.is_open = self.may_open
        return self.is_open

    def poll(self, timeout_s: float) -> list[TopicRecord]:
        try:
            return [self.records.get(timeout=min(timeout_s, 0.01))]
        except Empty:
            return []

    def pause(self) -> None:
        self.calls.append("pause")

    def skip_to_end(self) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append("skip_to_end")

    def close(self) -> None:
        self.calls.append("close")


def never(error: ConfigurationError) -> None:
    raise AssertionError(error)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def topic() -> FakeTopic:
    return FakeTopic()


@pytest.fixture
def results(topic: FakeTopic) -> Iterator[ResultFollower]:
    follower = ResultFollower(topic, Metrics(), never)
    eventually(lambda: not follower.unavailable_reason)
    yield follower
    follower.close()
    eventually(lambda: topic.calls[-1] == "close")


def result(command_id: str, seq: int) -> bytes:
    return msgspec.json.encode({"id": command_id, "seq": seq, "status": "accepted"})


def test_a_waiting_request_gets_its_result(results: ResultFollower, topic: FakeTopic) -> None:
    with results.expect(0, "a") as expected:
        topic.put(result("other", 0))
        topic.put(result("a", 1))
        assert expected.wait(5) == result("a", 1)


def test_a_topic_that_closed_is_opened_again_and_a_waiting_request_gets_its_result(
    results: ResultFollower, topic: FakeTopic
) -> None:
    topic.may_open = topic.is_open = False
    eventually(lambda: results.unavailable_reason)
    topic.may_open = True
    eventually(lambda: not results.unavailable_reason)
    with results.expect(0, "a") as expected:
        topic.put(result("a", 1))
        assert expected.wait(5) == result("a", 1)


def test_two_requests_that_wait_for_one_id_both_get_the_result(
    results: ResultFollower, topic: FakeTopic
) -> None:
    with results.expect(0, "a") as one, results.expect(0, "a") as other:
        topic.put(result("a", 0))
        assert one.wait(5) == other.wait(5) == result("a", 0)


def test_a_result_of_another_shard_is_not_the_commands_result(
    results: ResultFollower, topic: FakeTopic
) -> None:
    with results.expect(1, "a") as expected:
        topic.put(result("a", 0), shard=0)
        topic.put(result("a", 4), shard=1)
        assert expected.wait(5) == result("a", 4)


def test_a_result_that_a_deposed_leader_repeats_is_ignored(
    results: ResultFollower, topic: FakeTopic
) -> None:
    with results.expect(0, "b") as first:
        topic.put(result("b", 7))
        assert first.wait(5)
    with results.expect(0, "a") as expected:
        topic.put(result("a", 6))
        topic.put(result("a", 8))
        assert expected.wait(5) == result("a", 8)


def test_a_result_that_does_not_come_is_none(results: ResultFollower) -> None:
    with results.expect(0, "a") as expected:
        assert expected.wait(0.01) is None


def test_a_malformed_record_does_not_disturb_waiting_requests(
    results: ResultFollower, topic: FakeTopic
) -> None:
    with results.expect(0, "a") as expected:
        topic.put(b"rubbish")
        topic.put(b'{"x":' + b"[" * 100_000)
        topic.put(result("a", 0))
        assert expected.wait(5) == result("a", 0)


def test_the_number_of_waiting_requests_is_bounded(
    results: ResultFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_results, "MAX_WAITING", 1)
    with results.expect(0, "a"), pytest.raises(TooBusy), results.expect(0, "b"):
        pass
    with results.expect(0, "b"):
        pass


def test_no_request_can_wait_before_the_results_are_followed(topic: FakeTopic) -> None:
    topic.may_open = False
    topic.unavailable_reason = "does not exist yet"
    follower = ResultFollower(topic, Metrics(), never)
    with pytest.raises(Unavailable, match="does not exist yet"), follower.expect(0, "a"):
        pass
    follower.close()


def test_a_stopping_gateway_releases_all_waiting_requests(results: ResultFollower) -> None:
    answers: list[bytes | None] = []

    def wait() -> None:
        with results.expect(0, "a") as expected:
            answers.append(expected.wait(30))

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: results._count)
    results.release_all()
    waiting.join(5)
    assert answers == [None]


@pytest.fixture
def pauses_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_results, "IDLE_S", 0.01)
    monkeypatch.setattr(kafka_results, "BULK_RECORDS", 3)


def test_without_waiters_a_bulk_load_is_not_followed(
    pauses_soon: None, results: ResultFollower, topic: FakeTopic
) -> None:
    for n in range(10):
        topic.put(result("x", n))
    eventually(lambda: "pause" in topic.calls)


def test_a_request_during_a_pause_gets_its_result(
    pauses_soon: None, results: ResultFollower, topic: FakeTopic
) -> None:
    for n in range(10):
        topic.put(result("x", n))
    eventually(lambda: "pause" in topic.calls)
    with results.expect(0, "a") as expected:
        assert "skip_to_end" in topic.calls
        topic.put(result("a", 11))
        assert expected.wait(5) == result("a", 11)


def test_when_following_cannot_restart_the_request_is_refused(
    pauses_soon: None, results: ResultFollower, topic: FakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10):
        topic.put(result("x", n))
    eventually(lambda: "pause" in topic.calls)
    monkeypatch.setattr(kafka_results, "RESUME_TIMEOUT_S", 0.05)
    topic.error = JournalUnavailable("no answer")
    with pytest.raises(Unavailable), results.expect(0, "a"):
        pass
    topic.error = None


def test_a_wrong_number_of_shards_is_a_fatal_error(topic: FakeTopic) -> None:
    errors: list[ConfigurationError] = []
    topic.error = ShardCountMismatch("3 instead of 1")
    follower = ResultFollower(topic, Metrics(), errors.append)
    eventually(lambda: errors)
    follower.close()


# --- the directory --------------------------------------------------------------------------


def status(name: str, state: str, epoch: int, leader: str | None, lag_s: float = 0.0) -> bytes:
    return msgspec.json.encode(
        ReplicaStatus(
            replica=name,
            incarnation=f"{name}-1",
            pid=1,
            shard=0,
            state=state,
            epoch=epoch,
            leader=leader,
            leader_address=f"{leader}:7071" if leader else None,
            since=5,
            seq=epoch * 10,
            digest="00",
            lag=0,
            lag_s=lag_s,
            http=f"{name}:7070",
            tripwire=f"{name}:7071",
            time=0,
        )
    )


@pytest.fixture
def directory(topic: FakeTopic) -> Iterator[StatusDirectory]:
    found = StatusDirectory(topic, never)
    yield found
    found.close()


def test_the_leader_is_that_of_the_highest_epoch(
    directory: StatusDirectory, topic: FakeTopic
) -> None:
    topic.put(status("r1", "leader", 1, "r1"))
    topic.put(status("r2", "leader", 2, "r2"))
    topic.put(status("r1", "leader", 1, "r1"))  # deposed, and does not know it yet
    eventually(lambda: topic.records.empty() and directory.leader_addresses(0))
    eventually(lambda: directory.leader_addresses(0) == ["r2:7070"])
    view = directory.shard(0)
    assert view is not None
    assert (view.leader, view.epoch) == ("r2", 2)


def test_standbys_take_turns_in_answering_reads_and_the_leader_comes_after_them(
    directory: StatusDirectory, topic: FakeTopic
) -> None:
    topic.put(status("r1", "leader", 1, "r1"))
    topic.put(status("r2", "standby", 1, "r1"))
    topic.put(status("r3", "restoring", 0, None))
    topic.put(status("r4", "standby", 1, "r1"))
    topic.put(status("r0", "reader", 1, "r1", lag_s=60.0))  # stopped at a bound
    eventually(lambda: len(directory.reader_addresses(0)) == 4)
    turns = [directory.reader_addresses(0) for _ in range(2)]
    last = ["r1:7070", "r0:7070"]
    assert sorted(turns) == [["r2:7070", "r4:7070", *last], ["r4:7070", "r2:7070", *last]]


@pytest.mark.parametrize("clock_ms", [-3_600_000, 3_600_000])
def test_a_gateway_whose_clock_is_wrong_knows_who_lives(
    directory: StatusDirectory, topic: FakeTopic, clock_ms: int
) -> None:
    topic.put(status("r0", "standby", 1, "r1"), clock_ms=clock_ms - 7_000)  # ended long ago
    topic.put(status("r1", "leader", 1, "r1"), clock_ms=clock_ms)
    eventually(topic.records.empty)
    topic.is_caught_up = True
    eventually(lambda: directory.reader_addresses(0) == ["r1:7070"])
    topic.put(status("r2", "standby", 1, "r1"), clock_ms=clock_ms)
    eventually(lambda: directory.reader_addresses(0) == ["r2:7070", "r1:7070"])
    assert directory.leader_addresses(0) == ["r1:7070"]


def test_a_shard_without_a_status_is_unknown(directory: StatusDirectory) -> None:
    assert directory.shard(7) is None
    assert directory.leader_addresses(7) == []


def test_a_leader_that_is_silent_for_long_does_not_count(
    directory: StatusDirectory, topic: FakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.put(status("r1", "leader", 1, "r1"))
    eventually(lambda: directory.leader_addresses(0))
    later = time.time_ns() // 1_000_000 + 6_000
    monkeypatch.setattr("services.producer.directory.steady_ms", lambda: later)
    view = directory.shard(0)
    assert view is not None
    assert (view.leader, view.state, view.epoch) == (None, "no_leader", 1)
    assert directory.leader_addresses(0) == []
