"""The consumer of an engine: waiting for its records ends when anything else happens, too."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue

from confluent_kafka import Consumer, Message, TopicPartition

from postjournal.adapters.kafka.client import OnError, assign, make_consumer, reassign
from postjournal.adapters.kafka.settings import Config
from postjournal.adapters.process.wakeup import Wakeup

MAX_MESSAGES = 2_000
"""Messages consumed at once: a leader decides and reads back in turns of some milliseconds."""

SLICE_S = 0.100
"""How long a call other than `poll` may have to wait for the waiting thread. Such calls are rare
while it waits: most follow from a record. 20 ms cost 0.2 % of a core for each engine."""


class EngineConsumer:
    """One thread owns it. A second thread, the waiter, waits for a record when asked to.

    Nothing but a record or an error ends librdkafka's poll, and during a poll confluent-kafka 2.16
    lets no other thread call the same consumer. So the owner consumes without a wait, and only
    when there is no record it leaves the wait to the waiter, and sleeps until a `Wakeup` that the
    waiter sets as well. The waiter returns one message, and those behind it are left for the
    owner: a busy owner needs no other thread. Any other call takes the consumer back first.
    """

    def __init__(self, config: Config, wakeup: Wakeup, on_error: OnError, name: str) -> None:
        """Starts the waiter, a thread called `name`. `on_error` is called in either thread."""
        self._consumer = make_consumer(config, on_error)
        self._wakeup = wakeup
        self._requests: SimpleQueue[bool] = SimpleQueue()
        self._found: SimpleQueue[Message | Exception | None] = SimpleQueue()
        self.is_waiting = self._is_needed = False
        self._taken: Message | Exception | None = None  # by the waiter, and not returned yet
        self._waiter = threading.Thread(target=self._wait, daemon=True, name=name)
        self._waiter.start()

    # --- reading ----------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> list[Message]:
        """Up to `MAX_MESSAGES`; waits up to `timeout_s` seconds or until the `Wakeup` is set.

        Raises `BrokersLost`.
        """
        if not self.is_waiting and self._taken is None:
            self._taken = self._consumer.poll(0)
            if self._taken is None and timeout_s > 0:
                self.is_waiting = True
                self._requests.put(True)
        if self.is_waiting:
            if timeout_s > 0 and self._found.empty():
                self._wakeup.wait(timeout_s)
            if not self._found.empty():
                self._receive()
        taken, self._taken = self._taken, None
        if taken is None:
            return []
        if isinstance(taken, Exception):
            raise taken
        return [taken, *self._consumer.consume(MAX_MESSAGES, 0)]

    def _receive(self) -> None:
        self._taken = self._found.get()
        self.is_waiting = False

    def _take_back(self) -> Consumer:
        """The consumer, in which no poll is under way."""
        if self.is_waiting:
            self._is_needed = True
            self._receive()
            self._is_needed = False
        return self._consumer

    def _wait(self) -> None:
        while self._requests.get():
            found: Message | Exception | None = None
            try:
                while found is None and not self._is_needed:
                    found = self._consumer.poll(SLICE_S)
            except Exception as error:  # noqa: BLE001 - raised again by `poll`
                found = error
            self._found.put(found)
            self._wakeup.set()

    # --- positions --------------------------------------------------------------------------

    def assign(self, partitions: list[TopicPartition], paused: Sequence[TopicPartition]) -> None:
        """See `client.assign`."""
        consumer = self._take_back()
        self._drop({partition.topic for partition in partitions})
        assign(consumer, partitions, paused)

    def reassign(self, partition: TopicPartition) -> None:
        """See `client.reassign`."""
        consumer = self._take_back()
        self._drop({partition.topic})
        reassign(consumer, partition)

    def seek(self, partition: TopicPartition) -> None:
        """Continue from the offset of `partition`; nothing that was fetched before follows."""
        consumer = self._take_back()
        self._drop({partition.topic})
        consumer.seek(partition)

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Return no message of these until `resume`; none is left out."""
        consumer = self._take_back()
        consumer.pause(partitions)
        dropped = self._drop({partition.topic for partition in partitions})
        if dropped is not None:
            consumer.seek(dropped)

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._take_back().resume(partitions)

    def _drop(self, topics: set[str]) -> TopicPartition | None:
        """Drop what the waiter has taken, if it is a message of `topics`; returns its position."""
        taken = self._taken
        if not isinstance(taken, Message):
            return None
        topic, partition, offset = taken.topic(), taken.partition(), taken.offset()
        if topic not in topics or partition is None or offset is None:
            return None
        self._taken = None
        return TopicPartition(topic, partition, offset)

    # --- other requests ---------------------------------------------------------------------

    @property
    def client(self) -> Consumer:
        """librdkafka's consumer, for requests that read no records."""
        return self._take_back()

    def close(self) -> None:
        """End the waiter and the client. Raises `BrokersLost`."""
        consumer = self._take_back()
        self._requests.put(False)
        self._waiter.join()
        consumer.close()
