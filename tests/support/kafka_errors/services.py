"""What the producers of the services must do: commands, control and status records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from postjournal.adapters.kafka import producer as kafka_producer
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.client import make_producer
from postjournal.adapters.kafka.control_log import ControlLog
from postjournal.adapters.kafka.producer import RecordProducer
from postjournal.cluster.status import Handover
from postjournal.core.errors import JournalUnavailable
from services.producer.kafka_commands import KafkaCommandLog
from services.producer.metrics import Metrics
from services.producer.ports import Appended, NotAppended, Outcome, Record, Unavailable, Unknown
from tests.support.kafka_errors.scene import Scene
from tests.support.topics import read

TIMEOUT_MS = 1_500
"""Instead of the 5 s after which these producers give up; more than the 500 ms after which
librdkafka asks again for a producer id, since a new client may ask before it is connected."""

# --- commands ------------------------------------------------------------------------------------


class Gateway:
    """The command log, after a first command."""

    def __init__(self, scene: Scene) -> None:
        scene.configure("gateway_producer", {"message.timeout.ms": TIMEOUT_MS})
        self._scene, self.made = scene, 0
        self._count_producers()
        self.topic = scene.topics.topic("commands")
        self.log = scene.close_later(
            KafkaCommandLog(scene.access, self.topic, 1, Metrics(), _never_fatal)
        )
        scene.eventually(lambda: self.log.unavailable_reason is None)
        self.append_until(b"first", lambda outcome: isinstance(outcome, Appended))

    def _count_producers(self) -> None:
        def counted(*arguments: object) -> object:
            self.made += 1
            return make_producer(*arguments)  # type: ignore[arg-type]

        self._scene.patch.setattr(kafka_producer, "make_producer", counted)

    def append(self, value: bytes) -> Outcome:
        [outcome] = self.log.append([Record(b"key", 0, value)])
        return outcome

    def append_until(self, value: bytes, is_wanted: Callable[[Outcome], bool]) -> None:
        """Repeat a command, as its client does, until its outcome is as wanted."""

        def is_done() -> bool:
            try:
                return is_wanted(self.append(value))
            except Unavailable:
                return False

        self._scene.eventually(is_done)

    def expect_to_work(self, *values: bytes) -> None:
        """The next command is accepted, no thread has ended, and the topic holds `values`."""
        self.append_until(b"last", lambda outcome: isinstance(outcome, Appended))
        assert all(thread.is_alive() for thread in self.log._threads)
        assert self.log.unavailable_reason is None
        found = [message.value() for message in read(self._scene.access.bootstrap, self.topic)]
        assert [value for value in found if value != b"first"] == [*values, b"last"]


def _never_fatal(error: Exception) -> None:
    raise AssertionError(error)


def command_is_accepted_late(scene: Scene) -> None:
    """The waiting request is answered with success: librdkafka repeats what it sends."""
    gateway = Gateway(scene)
    scene.begin_briefly()
    assert isinstance(gateway.append(b"second"), Appended)
    scene.end()
    gateway.expect_to_work(b"second")


def command_is_unknown(scene: Scene) -> None:
    """The waiting request learns that the outcome is unknown; the next command is accepted."""
    _refused(scene, Unknown)


def command_is_not_accepted(scene: Scene) -> None:
    """The waiting request learns that nothing was appended; the next command is accepted."""
    _refused(scene, NotAppended)


def _refused(scene: Scene, kind: type[Outcome]) -> None:
    gateway = Gateway(scene)
    scene.begin()
    for _ in range(2):
        assert type(gateway.append(b"refused")) is kind
    scene.end()
    gateway.expect_to_work()


def producer_is_renewed_slowly(scene: Scene) -> None:
    """No command is accepted, and requests are answered; clients are renewed at a bounded rate."""
    gateway = Gateway(scene)
    gateway.log._producer.renew()  # as after a fatal error; the new one needs a producer id
    gateway.made = 0
    scene.begin()
    began_s = time.monotonic()
    while time.monotonic() < began_s + 2.0:
        try:
            assert not isinstance(gateway.append(b"refused"), Appended)
        except Unavailable:
            time.sleep(0.05)
    assert gateway.made <= 4
    assert scene.logged("the command producer failed") <= 2
    scene.end()
    gateway.expect_to_work()


def commands_are_unavailable(scene: Scene) -> None:
    """Commands are refused before anything is sent, and accepted when the error has ended."""
    gateway = Gateway(scene)
    scene.begin()
    scene.eventually(lambda: gateway.log.unavailable_reason)
    with pytest.raises(Unavailable):
        gateway.append(b"refused")
    scene.end()
    scene.eventually(lambda: gateway.log.unavailable_reason is None)
    gateway.expect_to_work()


# --- control records -----------------------------------------------------------------------------


def handover(time_ms: int) -> Handover:
    return Handover(shard=0, successor=None, time=time_ms)


class Control:
    """The control log, after a first record."""

    def __init__(self, scene: Scene) -> None:
        scene.configure("control_producer", {"message.timeout.ms": TIMEOUT_MS})
        self._scene = scene
        self.log = scene.close_later(ControlLog(scene.access, scene.topics.control))
        self.log.append(handover(0))

    def expect_to_work(self, records: int) -> None:
        """The next record is appended, and makes `records` of them."""
        self._scene.eventually(self._append)
        assert len(read(self._scene.access.bootstrap, self._scene.topics.control)) == records

    def _append(self) -> bool:
        try:
            self.log.append(handover(1))
        except JournalUnavailable:
            return False
        return True


def control_record_is_late(scene: Scene) -> None:
    """The caller waits until librdkafka has succeeded."""
    control = Control(scene)
    scene.begin_briefly()
    control.log.append(handover(1))
    scene.end()
    control.expect_to_work(3)


def control_record_fails(scene: Scene) -> None:
    """JournalUnavailable; the next record is appended."""
    control = Control(scene)
    scene.begin()
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match=scene.topics.control):
            control.log.append(handover(1))
    scene.end()
    control.expect_to_work(2)


# --- status records ------------------------------------------------------------------------------


def status_record_is_lost(scene: Scene) -> None:
    """Lost, without an end of the process that sends it; the next ones are appended."""
    scene.configure("control_producer", {"message.timeout.ms": TIMEOUT_MS})
    config = kafka_settings.control_producer(scene.access)
    producer = scene.close_later(RecordProducer(config, is_watched=True))
    outcomes: list[bool] = []

    def send() -> bool:
        """As the HTTP process does, which polls without waiting."""
        reported = threading.Event()

        def note(offset: int, failure: object) -> None:
            outcomes.append(failure is None)
            reported.set()

        try:
            producer.send(scene.topics.status, b"status", partition=0, on_delivery=note)
        except JournalUnavailable:
            outcomes.append(False)
            return False
        while not reported.is_set():
            producer.poll(0)
            time.sleep(0.002)
        return outcomes[-1]

    scene.eventually(send)
    outcomes.clear()
    scene.begin()
    for _ in range(3):
        send()
    assert outcomes == [False] * 3
    scene.end()
    scene.eventually(send)
    found = read(scene.access.bootstrap, scene.topics.status)
    assert len(found) == 2
