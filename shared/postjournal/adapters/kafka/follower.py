"""Following a topic: the loop that opens it, reads it and passes its records on."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import Protocol

from postjournal.adapters.kafka.client import TopicRecord
from postjournal.adapters.process.pulse import Pulse
from postjournal.core.errors import ShardCountMismatch

POLL_S = 0.2
JOIN_S = 2.0

Apply = Callable[[list[TopicRecord]], object]
Halt = Callable[[ShardCountMismatch], object]


class FollowedTopic(Protocol):
    """What a `Follower` needs of a `TopicReader`."""

    @property
    def is_open(self) -> bool:
        """Everything that is appended from now on will be returned by `poll`."""

    @property
    def is_caught_up(self) -> bool:
        """Every record that the topic held when it was opened has been returned."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why no records come; None while there is no fault."""

    def open(self) -> bool:
        """Try to open the topic; True when it is open. Raises `ShardCountMismatch`."""

    def poll(self, timeout_s: float) -> list[TopicRecord]:
        """The next records; waits up to `timeout_s` seconds for the first."""

    def close(self) -> None:
        """Close the connections to Kafka."""


class Follower:
    """Reads a topic and calls `apply` after each poll, also when the poll returned no records.

    It works in a thread of its own (`start`) or in the caller's (`run`). `name`: of the topic, for
    threads and messages. `needs_history`: the follower counts as unavailable until `apply` has
    got everything that the topic held at the start. `poll`: called instead of the topic's own.
    """

    def __init__(
        self,
        name: str,
        topic: FollowedTopic,
        apply: Apply,
        *,
        needs_history: bool,
        poll: Callable[[float], list[TopicRecord]] | None = None,
    ) -> None:
        """Reads nothing before `start` or `run`."""
        self._name, self._topic, self._apply = name, topic, apply
        self._needs_history, self._poll = needs_history, poll or topic.poll
        self._stopping = Event()
        self._thread: Thread | None = None
        self._turned_s = monotonic()

    @property
    def unavailable_reason(self) -> str | None:
        """Why the topic is not followed; None while it is. Any thread may ask."""
        topic = self._topic
        if topic.is_caught_up if self._needs_history else topic.is_open:
            return None
        return topic.unavailable_reason or f"the {self._name} topic is not read yet"

    @property
    def idle_s(self) -> float:
        """Seconds since the loop's last turn, which takes some seconds at most."""
        return monotonic() - self._turned_s

    def start(self, halt: Halt) -> None:
        """Follow in a thread. `halt` is called there when the topic has too many partitions."""
        self._thread = Thread(
            target=self._run_until_halt, args=(halt,), name=f"follow-{self._name}", daemon=True
        )
        self._thread.start()

    def run(self, stopping: Event) -> None:
        """Follow in this thread until `stopping` is set. Raises `ShardCountMismatch`."""
        try:
            with Pulse(f"follow-{self._name}") as pulse:
                while not stopping.is_set():
                    self.step(POLL_S)
                    pulse.beat()
        finally:
            self._topic.close()

    def step(self, timeout_s: float) -> None:
        """One turn of the loop. Raises `ShardCountMismatch`."""
        self._turned_s = monotonic()
        if self._topic.open():
            self._apply(self._poll(timeout_s))

    def stop(self) -> None:
        """End the thread after its current turn, without waiting for it."""
        self._stopping.set()

    def close(self) -> None:
        """End the thread, and wait some seconds for it."""
        self.stop()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _run_until_halt(self, halt: Halt) -> None:
        try:
            self.run(self._stopping)
        except ShardCountMismatch as error:
            halt(error)
