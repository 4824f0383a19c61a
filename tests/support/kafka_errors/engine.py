"""What an engine's clients must do: `KafkaLog` with its producers, its consumer and its tails."""

from __future__ import annotations

import time

import pytest

from postjournal.adapters.kafka.engine import lasting_errors
from postjournal.core import messages as m
from postjournal.core.errors import RecordsMissing
from tests.support.contract.kafka_log import KafkaLogUnderTest
from tests.support.contract.shard_log import SINK, Listener, outputs
from tests.support.kafka_errors.scene import OTHER_SINK, Scene
from tests.support.mock_kafka import Request
from tests.support.topics import read

TOPIC_QUERY_S = 1.3
"""After a second librdkafka asks again for a topic of which Kafka has refused a record."""

QUIET_MS = 60
"""How long to wait for what must not come: many requests of the mock cluster."""


class Engine:
    """The log of one shard and what it delivers, after a first append and a first output."""

    def __init__(self, scene: Scene) -> None:
        scene.patch.setattr(lasting_errors, "OVER_S", scene.over_s)
        self._scene = scene
        self.under_test = scene.close_later(KafkaLogUnderTest(scene.access.bootstrap, scene.topics))
        self.under_test.quiet_ms = QUIET_MS
        self.log = self.under_test.kafka_log
        self.listener = Listener(self.under_test)
        self.log.append(b"first")
        self.listener.until(lambda received: received.acknowledged == 1)
        self.listener.until(lambda received: len(received.journal) == 1)

    def poll(self) -> bool:
        self.listener.listen(10)
        return True

    def until_failed(self, requests: int) -> None:
        """Poll until this many requests have got the error, or the lost broker is noticed."""
        ends = self.listener.received.ends
        self._scene.eventually(
            lambda: (
                self.poll()
                and (
                    self._scene.failed() >= requests
                    if self._scene.row.request is not None
                    else None in ends
                )
            )
        )

    def journal(self) -> list[bytes]:
        """The journal's values, as another reader finds them."""
        found = read(self._scene.access.bootstrap, self._scene.topics.journal)
        return [message.value() or b"" for message in found]

    def open_sink(self) -> int:
        """The next sequence of the sink, which is reported once."""
        self.listener.reset()
        self.log.open_sink(SINK)
        received = self.listener.until(lambda received: bool(received.tails))
        assert len(received.tails) == 1
        return received.tails[0][1]

    def expect_shown(self, text: str = "") -> None:
        """An error that contains `text` is shown all the time."""
        self._scene.expect_shown(
            self.poll,
            lambda: self.log.unavailable_reason and text in self.log.unavailable_reason,
        )

    def publish(self, first: int, end: int) -> None:
        self.log.publish(SINK, outputs(first, end))


# --- the journal's producer ----------------------------------------------------------------------


def append_is_acknowledged_late(scene: Scene) -> None:
    """Each append is acknowledged once, in order, when the error has ended; none fails."""
    engine = Engine(scene)
    scene.begin()
    engine.log.append(b"second")
    engine.log.append(b"third")
    engine.until_failed(scene.several)
    received = engine.listener.received
    assert received.acknowledged == 1
    scene.end()
    engine.listener.until(lambda received: received.acknowledged == 3)
    engine.listener.until(lambda received: len(received.journal) == 3)
    assert received.failures == []
    assert engine.journal() == [b"first", b"second", b"third"]


def append_fails(scene: Scene) -> None:
    """AppendFailed, shown; none after `forget_appends`, which makes a producer that may append."""
    engine = Engine(scene)
    scene.begin()
    for attempt in range(2):
        engine.log.append(b"refused %d" % attempt)
        received = engine.listener.until(lambda received: bool(received.failures))
        assert all(isinstance(failure, m.AppendFailed) for failure in received.failures)
        assert engine.log.unavailable_reason
        engine.log.forget_appends()
        engine.listener.reset()
        assert engine.listener.listen_briefly().failures == []
    scene.end()
    engine.log.append(b"second")
    received = engine.listener.until(lambda received: received.acknowledged == 1)
    assert received.failures == []
    assert engine.journal() == [b"first", b"second"]


def standby_shows_its_producers(scene: Scene) -> None:
    """Of producers that are not in use: shown while it lasts, logged once; they work afterwards."""
    engine = Engine(scene)
    scene.begin()
    engine.log.rewind()  # new producers
    engine.log.open_journal(1)
    scene.eventually(lambda: engine.poll() and engine.log.unavailable_reason)
    engine.expect_shown()
    assert scene.logged("new journal producer") <= 1
    assert scene.logged("publishing failed") <= len(scene.topics.sinks)
    scene.end()
    scene.eventually(lambda: engine.poll() and engine.log.unavailable_reason is None)
    engine.listener.reset()
    engine.log.append(b"second")
    received = engine.listener.until(lambda received: received.acknowledged == 1)
    assert received.failures == []
    assert engine.journal() == [b"first", b"second"]
    assert engine.open_sink() == 0
    engine.publish(0, 2)
    received = engine.listener.until(lambda received: (SINK, 2) in received.published)
    assert received.failures == []


# --- claims --------------------------------------------------------------------------------------


def claim_is_refused(scene: Scene) -> None:
    """Shown while it lasts, logged once; when it has ended, claims are appended."""
    engine = Engine(scene)
    scene.begin()
    claim_until(scene, engine, shown=True)
    scene.expect_shown(
        lambda: claim(engine, b"refused"), lambda: engine.log.unavailable_reason, TOPIC_QUERY_S
    )
    assert scene.logged("has refused a claim") == 1
    assert engine.journal() == [b"first"]
    scene.end()
    claim_until(scene, engine, shown=False)
    assert b"claim" in engine.journal()
    assert engine.listener.received.failures == []


def claim_is_lost(scene: Scene) -> None:
    """Dropped without a message; claims are appended when the error has ended."""
    engine = Engine(scene)
    scene.begin()
    ends_s = time.monotonic() + 0.5  # more than a claim's time
    while time.monotonic() < ends_s:
        claim(engine, b"lost")
        assert engine.log.unavailable_reason is None
    scene.end()
    received = engine.listener.received

    def is_appended() -> bool:
        claim(engine, b"claim")
        return any(value == b"claim" for _, value in received.journal)

    scene.eventually(is_appended)
    assert not scene.logged("has refused a claim")
    assert received.failures == []


def claim(engine: Engine, value: bytes) -> None:
    """As a standby does, which repeats a claim that it has not read back."""
    engine.log.append_claim(value)
    engine.listener.listen(50)


def claim_until(scene: Scene, engine: Engine, *, shown: bool) -> None:
    """Repeat a claim until an error is shown or none is."""

    def is_done() -> bool:
        claim(engine, b"refused" if shown else b"claim")
        return bool(engine.log.unavailable_reason) is shown

    scene.eventually(is_done)


# --- sinks ---------------------------------------------------------------------------------------


def output_is_published_late(scene: Scene) -> None:
    """All outputs are published once, in order, when the error has ended; none fails."""
    engine = Engine(scene)
    assert engine.open_sink() == 0
    scene.begin()
    engine.publish(0, 3)
    engine.publish(3, 5)
    engine.until_failed(scene.several)
    assert engine.listener.received.published == []
    scene.end()
    received = engine.listener.until(lambda received: (SINK, 5) in received.published)
    assert received.failures == []
    assert engine.under_test.sink_seqs() == list(range(5))


def publish_fails_once(scene: Scene) -> None:
    """PublishFailed, once per attempt, shown and logged once; then opened again without a gap."""
    engine = Engine(scene)
    assert engine.open_sink() == 0
    engine.publish(0, 2)
    engine.listener.until(lambda received: (SINK, 2) in received.published)
    scene.begin()
    for _ in range(2):
        engine.publish(2, 4)
        engine.publish(4, 6)
        received = engine.listener.until(lambda received: bool(received.failures))
        [failure] = received.failures
        assert isinstance(failure, m.PublishFailed)
        assert failure.sink == SINK
        assert engine.log.unavailable_reason
        engine.listener.reset()
        assert engine.listener.listen_briefly().failures == []
        assert engine.open_sink() == 2
    assert scene.logged("publishing failed") == 1
    scene.end()
    publish_until_accepted(engine)
    assert engine.log.unavailable_reason is None
    assert engine.under_test.sink_seqs() == list(range(6))


def publish_until_accepted(engine: Engine) -> None:
    """As a leader does: after a failure from what the topic holds."""
    for _ in range(10):
        engine.publish(2, 4)
        engine.publish(4, 6)
        received = engine.listener.until(
            lambda received: bool(received.failures) or (SINK, 6) in received.published
        )
        if not received.failures:
            return
        assert engine.open_sink() == 2
    pytest.fail("a sink that works is not accepted")


def renewed_sink_waits(scene: Scene) -> None:
    """A new producer gets its id when the error has ended, and publishes; nothing fails."""
    engine = Engine(scene)
    assert engine.open_sink() == 0
    engine.publish(0, 2)
    engine.listener.until(lambda received: (SINK, 2) in received.published)
    scene.begin()
    assert engine.open_sink() == 2  # with a new producer
    engine.publish(2, 4)
    engine.until_failed(scene.several)
    assert engine.listener.received.published == []
    scene.end()
    received = engine.listener.until(lambda received: (SINK, 4) in received.published)
    assert received.failures == []
    assert engine.under_test.sink_seqs() == list(range(4))


def output_fails_once(scene: Scene) -> None:
    """PublishFailed, once; the sink continues after what Kafka has accepted, without a gap."""
    engine = Engine(scene)
    assert engine.open_sink() == 0
    engine.publish(0, 2)
    engine.listener.until(lambda received: (SINK, 2) in received.published)
    scene.kafka.fail(Request.PRODUCE, scene.row.error)
    engine.publish(2, 4)
    engine.publish(4, 6)
    received = engine.listener.until(lambda received: bool(received.failures))
    assert len(received.failures) == 1
    assert received.published == [(SINK, 2)]
    assert engine.open_sink() == 2
    publish_until_accepted(engine)
    assert engine.under_test.sink_seqs() == list(range(6))


# --- the consumer --------------------------------------------------------------------------------


def deliver(engine: Engine, scene: Scene, first: int, end: int) -> None:
    values = [b"v%d" % number for number in range(first, end)]
    engine.under_test.feed("commands", values)
    engine.under_test.put(scene.topics.journal, values)


def expect_all(engine: Engine, scene: Scene, end: int) -> None:
    """Journal and source arrive without a gap, in order and once."""
    values = [b"v%d" % number for number in range(end)]
    source = scene.topics.topic("commands")
    engine.listener.until(
        lambda received: (
            len(received.journal) >= end + 1 and len(received.sources.get(source, ())) >= end
        )
    )
    received = engine.listener.listen_briefly()
    assert received.journal == list(enumerate([b"first", *values]))
    assert received.sources == {source: list(enumerate(values))}


def reading(scene: Scene) -> Engine:
    engine = Engine(scene)
    engine.log.open_sources({})
    deliver(engine, scene, 0, 2)
    expect_all(engine, scene, 2)
    return engine


def fetch_is_repeated(scene: Scene) -> None:
    """Nothing but a delay: journal and sources continue without a gap."""
    engine = reading(scene)
    scene.begin()
    engine.until_failed(scene.several)
    if scene.row.request is not None:
        deliver(engine, scene, 2, 5)
        engine.until_failed(scene.failed() + 1)
        scene.end()
    else:
        scene.end()
        deliver(engine, scene, 2, 5)
    expect_all(engine, scene, 5)
    assert not scene.logged("cannot be read")


def fetch_error_is_shown(scene: Scene) -> None:
    """Shown as long as it lasts, logged once per topic; then all continues without a gap."""
    engine = reading(scene)
    scene.begin()
    deliver(engine, scene, 2, 5)
    scene.eventually(lambda: engine.poll() and engine.log.unavailable_reason)
    engine.expect_shown(scene.topics.journal)
    topics = (scene.topics.journal, scene.topics.control, *scene.topics.source_topics)
    assert [scene.logged(f"{topic} cannot be read") for topic in topics] == [1] * len(topics)
    scene.end()
    expect_all(engine, scene, 5)
    scene.eventually(lambda: engine.poll() and engine.log.unavailable_reason is None)


def shard_halts(scene: Scene) -> None:
    """The records that the shard needs next are missing: the shard halts."""
    engine = reading(scene)
    scene.kafka.fail_partition(Request.FETCH, scene.topics.journal, scene.row.error)
    with pytest.raises(RecordsMissing, match=scene.topics.journal):
        scene.eventually(lambda: not engine.poll())


def control_continues_at_its_end(scene: Scene) -> None:
    """Requests that were deleted are not needed: journal and sources continue."""
    engine = reading(scene)
    scene.kafka.fail_partition(Request.FETCH, scene.topics.control, scene.row.error)
    scene.eventually(lambda: engine.poll() and scene.logged("continuing at the end"))
    deliver(engine, scene, 2, 5)
    expect_all(engine, scene, 5)


def end_is_unknown(scene: Scene) -> None:
    """The journal's end is reported as unknown, and is known when the error has ended."""
    engine = Engine(scene)
    scene.begin()
    engine.log.probe_end("a")
    received = engine.listener.until(lambda received: "a" in received.end_tokens)
    assert received.ends[-1] is None
    scene.end()

    def probe() -> bool:
        engine.log.probe_end("b")
        engine.poll()
        return received.ends[-1] is not None

    scene.eventually(probe)
    assert received.ends[-1] == 1


# --- tails ---------------------------------------------------------------------------------------


def tail_is_read_late(scene: Scene) -> None:
    """The sink's next sequence, once, when the error has ended; logged once while it lasts."""
    engine = Engine(scene)
    engine.open_sink()
    engine.publish(0, 2)
    engine.listener.until(lambda received: (SINK, 2) in received.published)
    scene.begin()
    engine.listener.reset()
    engine.log.open_sink(SINK)
    engine.until_failed(scene.several)
    assert engine.listener.received.tails == []
    assert scene.logged("sink tails") + scene.logged("could not be read yet") <= 1
    scene.end()
    engine.listener.until(lambda received: received.tails == [(SINK, 2)])
    assert engine.listener.listen_briefly().tails == [(SINK, 2)]


def sink_without_a_leader_holds_up_no_other(scene: Scene) -> None:
    """The other sinks are opened at once; this one when its partition has a leader again."""
    engine = Engine(scene)
    topic = scene.topics.sink_topics[OTHER_SINK]
    scene.kafka.set_leaderless(topic, True)
    engine.listener.reset()
    for sink in (SINK, OTHER_SINK):
        engine.log.open_sink(sink)
    engine.listener.until(lambda received: received.tails == [(SINK, 0)])
    scene.kafka.set_leaderless(topic, False)
    engine.listener.until(lambda received: received.tails == [(SINK, 0), (OTHER_SINK, 0)])
