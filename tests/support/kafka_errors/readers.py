"""What readers outside the engine must do: followed topics, subscriptions, probes, audits."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from postjournal.adapters.kafka import journal_probe
from postjournal.adapters.kafka import subscription as kafka_subscription
from postjournal.adapters.kafka import topic_reader as kafka_topic_reader
from postjournal.adapters.kafka.journal_probe import JournalProbe
from postjournal.adapters.kafka.partition_reader import KafkaPartition
from postjournal.adapters.kafka.subscription import Subscription
from postjournal.adapters.kafka.topic_reader import TopicReader, beginning, end
from postjournal.core.errors import JournalUnavailable
from postjournal.core.sequence import Position
from services.producer.kafka_results import ResultFollower
from services.producer.metrics import Metrics
from tests.support.contract.shard_log import SINK
from tests.support.kafka_errors.scene import Scene
from tests.support.topics import publish

POLL_S = 0.02
"""Shorter than the pauses between two errors: most polls find neither a record nor an error."""

ANSWER_S = 0.3
"""Instead of seconds, after which a broker counts as unavailable."""

# --- followed topics -----------------------------------------------------------------------------


def result(seq: int) -> bytes:
    return b'{"seq":%d,"id":"c%d"}' % (seq, seq)


def feed(scene: Scene, first: int, last: int) -> None:
    topic = scene.topics.sink_topics[SINK]
    publish(scene.access.bootstrap, topic, [result(seq) for seq in range(first, last)])


class Reading:
    """A reader of the results, which has read two."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        scene.patch.setattr(kafka_topic_reader, "FETCH_OVER_S", scene.over_s)
        feed(scene, 0, 2)
        topic = scene.topics.sink_topics[SINK]
        self.reader = scene.close_later(TopicReader(scene.access, topic, 1, beginning))
        self.offsets: list[int] = []
        scene.eventually(self.reader.open)
        self.until(2)

    def poll(self) -> bool:
        if self.reader.open():
            self.offsets += [record.offset for record in self.reader.poll(POLL_S)]
        return True

    def until(self, records: int) -> None:
        self._scene.eventually(lambda: self.poll() and len(self.offsets) >= records)
        assert self.offsets == list(range(records))


def reading_is_repeated(scene: Scene) -> None:
    """Nothing but a delay: every record is read once, in order."""
    reading = Reading(scene)
    scene.begin()
    feed(scene, 2, 5)
    scene.eventually(lambda: reading.poll() and scene.failed() >= scene.several)
    scene.end()
    reading.until(5)


def reading_is_interrupted(scene: Scene) -> None:
    """Shown as long as it lasts, logged once; then every record is read once, in order."""
    reading = Reading(scene)
    scene.begin()
    if scene.row.request is not None:
        feed(scene, 2, 5)
    scene.eventually(lambda: reading.poll() and reading.reader.unavailable_reason)
    scene.expect_shown(reading.poll, lambda: reading.reader.unavailable_reason)
    assert scene.logged("retrying until it works") == 1
    scene.end()
    if scene.row.request is None:
        feed(scene, 2, 5)
    reading.until(5)
    scene.eventually(lambda: reading.poll() and reading.reader.unavailable_reason is None)
    assert scene.logged("works again") == 1


def opening_is_repeated(scene: Scene) -> None:
    """Not open, with a reason; open when the error has ended, and no record is missed."""
    feed(scene, 0, 2)
    scene.begin()
    topic = scene.topics.sink_topics[SINK]
    reader = scene.close_later(TopicReader(scene.access, topic, 1, end))
    scene.patch.setattr(kafka_topic_reader, "METADATA_TIMEOUT_S", ANSWER_S)
    for _ in range(2):
        assert not reader.open()
        assert reader.unavailable_reason
    scene.end()
    scene.eventually(reader.open)
    assert reader.unavailable_reason is None
    feed(scene, 2, 4)
    offsets: list[int] = []

    def read() -> bool:
        offsets.extend(record.offset for record in reader.poll(POLL_S))
        return len(offsets) >= 2

    scene.eventually(read)
    assert offsets == [2, 3]


def waiting_request_gets_its_result(scene: Scene) -> None:
    """A request that waits for its result gets it when the error has ended."""
    topic = TopicReader(scene.access, scene.topics.sink_topics[SINK], 1, end)
    results = scene.close_later(ResultFollower(topic, Metrics(), _never_fatal))
    scene.eventually(lambda: results.unavailable_reason is None)
    answers: list[bytes | None] = []

    def wait() -> None:
        with results.expect(0, "c1") as expected:
            answers.append(expected.wait(30.0))

    request = threading.Thread(target=wait, daemon=True)
    scene.begin()
    request.start()
    if scene.row.request is not None:
        feed(scene, 0, 2)
        scene.eventually(lambda: scene.failed() >= scene.several)
    assert answers == []
    scene.end()
    if scene.row.request is None:
        feed(scene, 0, 2)
    request.join(30.0)
    assert answers == [result(1)]


def _never_fatal(error: Exception) -> None:
    raise AssertionError(error)


# --- subscriptions -------------------------------------------------------------------------------


class Positions:
    """A position store in memory."""

    def __init__(self) -> None:
        self.saved: dict[int, Position] = {}

    def load(self, partition: int) -> Position | None:
        return self.saved.get(partition)

    def save(self, positions: Mapping[int, Position]) -> None:
        self.saved.update(positions)


class Subscriber:
    """A subscription to the results; without a group unless `group` is given."""

    def __init__(self, scene: Scene, group: str | None = None) -> None:
        self._scene = scene
        scene.patch.setattr(kafka_topic_reader, "FETCH_OVER_S", scene.over_s)
        scene.patch.setattr(kafka_subscription, "ANSWER_S", ANSWER_S)
        self.subscription = scene.close_later(
            Subscription(
                scene.access,
                scene.topics.sink_topics[SINK],
                group=group,
                positions=None if group else Positions(),
                partitions=None,
                start="beginning",
            )
        )
        self.seqs: list[int] = []

    def poll(self) -> bool:
        self.seqs += [output.seq for output in self.subscription.poll(POLL_S)]
        return True

    def until(self, records: int) -> None:
        self._scene.eventually(lambda: self.poll() and len(self.seqs) >= records)
        assert self.seqs == list(range(records))


def subscription_is_interrupted(scene: Scene) -> None:
    """Shown as long as it lasts, logged once; then every output is returned once, in order."""
    subscriber = Subscriber(scene)
    feed(scene, 0, 2)
    subscriber.until(2)
    scene.begin()
    if scene.row.request is not None:
        feed(scene, 2, 5)
    scene.eventually(lambda: subscriber.poll() and subscriber.subscription.unavailable_reason)
    scene.expect_shown(subscriber.poll, lambda: subscriber.subscription.unavailable_reason)
    assert scene.logged("retrying until it works") == 1
    scene.end()
    if scene.row.request is None:
        feed(scene, 2, 5)
    subscriber.until(5)
    scene.eventually(
        lambda: subscriber.poll() and subscriber.subscription.unavailable_reason is None
    )
    assert scene.logged("works again") == 1


def subscription_is_repeated(scene: Scene) -> None:
    """Nothing but a delay: every output is returned once, in order."""
    subscriber = Subscriber(scene)
    feed(scene, 0, 2)
    subscriber.until(2)
    scene.begin()
    feed(scene, 2, 5)
    scene.eventually(lambda: subscriber.poll() and scene.failed() >= scene.several)
    scene.end()
    subscriber.until(5)


def member_starts_late(scene: Scene) -> None:
    """Nothing is returned, with a reason, until the error has ended; then every output once."""
    feed(scene, 0, 3)
    scene.begin()
    subscriber = Subscriber(scene, "group")
    scene.eventually(lambda: subscriber.poll() and scene.failed() >= 2)
    assert subscriber.seqs == []
    assert subscriber.subscription.unavailable_reason
    scene.end()
    subscriber.until(3)
    scene.eventually(
        lambda: subscriber.poll() and subscriber.subscription.unavailable_reason is None
    )


def commit_fails(scene: Scene) -> None:
    """JournalUnavailable; a later commit saves the position."""
    feed(scene, 0, 3)
    subscriber = Subscriber(scene, "group")
    subscriber.until(3)
    scene.begin()
    with pytest.raises(JournalUnavailable, match="position not committed"):
        subscriber.subscription.commit()
    scene.end()
    subscriber.subscription.commit()
    assert subscriber.subscription._store.load(0) == Position(next_offset=3, last_seq=2)


# --- probes and audits ---------------------------------------------------------------------------


def probe_waits_or_fails(scene: Scene) -> None:
    """JournalUnavailable within the probe's time; an answer when the error has ended."""
    publish(scene.access.bootstrap, scene.topics.journal, [b"v0", b"v1"])
    scene.patch.setattr(journal_probe, "ANSWER_S", ANSWER_S)
    probe = scene.close_later(JournalProbe(scene.access, scene.topics.journal, 0))
    scene.begin()

    def is_refused() -> bool:
        """On a busy machine a probe may give up before its request has got the error."""
        with pytest.raises(JournalUnavailable, match=scene.topics.journal):
            _ask(probe)
        return bool(scene.failed())

    scene.eventually(is_refused)
    scene.end()

    def is_answered() -> bool:
        try:
            return _ask(probe) == ((0, 2), b"v1")
        except JournalUnavailable:
            return False

    scene.eventually(is_answered)


def _ask(probe: JournalProbe) -> tuple[tuple[int, int], bytes | None]:
    return probe.bounds(), probe.value(1)


def audit_continues(scene: Scene) -> None:
    """Every record is read once, in order, when the error has ended."""
    values = [b"v%d" % number for number in range(5)]
    publish(scene.access.bootstrap, scene.topics.journal, values)
    scene.begin_briefly()
    partition = KafkaPartition(scene.access, scene.topics.journal, 0, 0, 5)
    found = [value for chunk in partition.chunks(0) for value in chunk.values]
    scene.end()
    assert found == values
