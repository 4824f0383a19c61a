"""Sends commands at a steady rate, whatever becomes of them (an open loop)."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable
from functools import partial

from loadtest.workload.commands import Book, Order
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.producer import DeliveryFailed, RecordProducer
from postjournal.cli.errors import OperationFailed
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import JournalUnavailable
from postjournal.core.sharding import shard_of

ANSWER_S = 10.0


class Sender:
    """Enters orders into the book and sends them into the commands topic.

    `intended_ns` and `late_ns`: for each position of the book, when it was to be sent
    (monotonic clock), and how much later the call was made. Latencies are measured from the
    intended time: a sender that is held up must not hide what its commands waited meanwhile
    (coordinated omission).
    """

    def __init__(self, kafka: KafkaAccess, topic: str, shards: int, book: Book) -> None:
        """Connects now, so that the first command does not pay for it."""
        self._topic, self._shards, self._book = topic, shards, book
        self._partitions: dict[str, int] = {}
        self._producer = RecordProducer(kafka_settings.gateway_producer(kafka))
        try:
            self._producer.partition_count(topic, ANSWER_S)
        except JournalUnavailable as error:
            raise OperationFailed(f"Kafka at {kafka.bootstrap} does not answer: {error}") from error
        self.intended_ns = array("q")
        self.late_ns = array("q")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def send_all(self, orders: Iterable[Order]) -> None:
        """As fast as Kafka takes them."""
        for order in orders:
            self._send(order, time.monotonic_ns())
        self.flush()

    def start(self, orders: Iterable[Order], rate: float) -> None:
        """Send at `rate` per second, in a thread, until the orders or `stop` end it."""
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, args=(orders, rate), daemon=True, name="sender"
        )
        self._thread.start()

    def stop(self) -> None:
        """End the load and wait until Kafka has acknowledged it, or given up on it."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until the orders have ended."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()

    def flush(self) -> None:
        """Wait until Kafka has acknowledged everything, or given up on it."""
        self._producer.flush(ANSWER_S)

    def _run(self, orders: Iterable[Order], rate: float) -> None:
        start_ns, interval_ns = time.monotonic_ns(), 1e9 / rate
        for count, order in enumerate(orders):
            due_ns = start_ns + int(count * interval_ns)
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            if self._stop.is_set():
                return
            self._send(order, due_ns)
            self._producer.poll(0)

    def _send(self, order: Order, intended_ns: int) -> None:
        position, value = self._book.add(order)
        self.intended_ns.append(intended_ns)
        self.late_ns.append(time.monotonic_ns() - intended_ns)
        self._producer.send(
            self._topic,
            value,
            key=order.ledger,
            partition=self.partition(order.ledger),
            on_delivery=partial(self._delivered, position),
        )

    def repeat(self, position: int) -> None:
        """Send a command of the book once more, as a client that had no answer would."""
        ledger = self._book.order(position).ledger
        value, partition = self._book.again(position), self.partition(ledger)
        self._producer.send(self._topic, value, key=ledger, partition=partition)

    def partition(self, key: str) -> int:
        """The shard of a ledger."""
        found = self._partitions.get(key)
        if found is None:
            found = self._partitions[key] = shard_of(key.encode(), self._shards)
        return found

    def _delivered(self, position: int, offset: int, failure: DeliveryFailed | None) -> None:
        del offset
        if failure is not None:
            self._book.fail(position)
