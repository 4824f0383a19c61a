"""Sends commands at a steady rate that does not depend on the results (an open loop)."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable
from functools import partial

from loadtest.kafka import REQUEST_TIMEOUT_S, command_producer
from loadtest.workload.commands import CommandSpec, SentCommands
from postjournal.config.settings import KafkaAccess
from postjournal.core.sharding import shard_of


class Sender:
    """Records commands in `sent` and sends them into the commands topic.

    `intended_ns` and `late_ns`: for each position in `sent`, when the command was to be sent
    (monotonic clock), and how much later the call was made. Latencies are measured from the
    intended time: a delayed sender must not hide how long its commands waited (coordinated
    omission).
    """

    def __init__(self, kafka: KafkaAccess, topic: str, shards: int, sent: SentCommands) -> None:
        self._topic, self._shards, self._sent = topic, shards, sent
        self._partitions: dict[str, int] = {}
        self._producer = command_producer(kafka, topic)
        self.intended_ns = array("q")
        self.late_ns = array("q")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def send_all(self, specs: Iterable[CommandSpec]) -> None:
        """Send as fast as Kafka accepts, and wait for the acknowledgements."""
        for spec in specs:
            self._send(spec, time.monotonic_ns())
        self._flush()

    def start(self, specs: Iterable[CommandSpec], rate: float) -> None:
        """Send at `rate` per second, in a thread, until `specs` ends or `stop` is called."""
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, args=(specs, rate), daemon=True, name="sender"
        )
        self._thread.start()

    def stop(self) -> None:
        """End the load and wait until Kafka has acknowledged it, or for `REQUEST_TIMEOUT_S`."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until all commands are sent and acknowledged."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._flush()

    def _flush(self) -> None:
        self._producer.flush(REQUEST_TIMEOUT_S)

    def _run(self, specs: Iterable[CommandSpec], rate: float) -> None:
        start_ns, interval_ns = time.monotonic_ns(), 1e9 / rate
        for count, spec in enumerate(specs):
            due_ns = start_ns + int(count * interval_ns)
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            if self._stop.is_set():
                return
            self._send(spec, due_ns)
            self._producer.poll(0)

    def _send(self, spec: CommandSpec, intended_ns: int) -> None:
        position, value = self._sent.add(spec)
        self.intended_ns.append(intended_ns)
        self.late_ns.append(time.monotonic_ns() - intended_ns)
        self._producer.produce(
            self._topic,
            value,
            key=spec.ledger,
            partition=self.partition(spec.ledger),
            on_delivery=partial(self._on_delivery, position),
        )

    def repeat(self, position: int) -> None:
        """Send a command once more, as a client does that received no acknowledgement."""
        ledger = self._sent.spec(position).ledger
        value, partition = self._sent.encoded(position), self.partition(ledger)
        self._producer.produce(self._topic, value, key=ledger, partition=partition)

    def partition(self, ledger: str) -> int:
        """The shard of a ledger."""
        found = self._partitions.get(ledger)
        if found is None:
            found = self._partitions[ledger] = shard_of(ledger.encode(), self._shards)
        return found

    def _on_delivery(self, position: int, error: object, _message: object) -> None:
        if error is not None:
            self._sent.mark_unacknowledged(position)
