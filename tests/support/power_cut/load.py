"""Commands that are sent to a source until the power is cut."""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial

import msgspec
from confluent_kafka import KafkaError, Message

from tests.support.topics import ANSWER_S, retrying_producer

PACE_S = 0.002
"""Between two commands: some hundred a second, which leaves CPU to everything else."""

DRAIN_S = 0.2
"""Acknowledgements that arrived before the cut reach `acknowledged` within this time. One that
does not is missing there, and nothing is expected of its command."""


class Load:
    """Deposits with the ids `NAME-0`, `NAME-1` and so on; `acknowledged`: ids, in order."""

    def __init__(self, kafka: str, topic: str, name: str) -> None:
        self.acknowledged: list[str] = []
        self.is_acknowledged = threading.Event()
        self._topic, self._name = topic, name
        self._producer = retrying_producer(kafka)
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the cut, before the broker starts again: what it has not taken is not sent."""
        self._is_stopping.set()
        self._thread.join()
        deadline = time.monotonic() + DRAIN_S
        while (left_s := deadline - time.monotonic()) > 0:
            self._producer.poll(left_s)
        self._producer.purge()
        assert self._producer.flush(ANSWER_S) == 0

    def _run(self) -> None:
        for number in itertools.count():
            if self._is_stopping.is_set():
                return
            command_id = f"{self._name}-{number}"
            command = {"id": command_id, "type": "deposit", "account": "a", "amount": 1}
            self._producer.produce(
                self._topic,
                msgspec.json.encode(command),
                b"main",
                0,
                on_delivery=partial(self._on_delivery, command_id),
            )
            self._producer.poll(PACE_S)

    def _on_delivery(self, command_id: str, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged.append(command_id)
            self.is_acknowledged.set()
