"""A row of the table of errors, and the cluster on which it is checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.settings import Config
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from tests.support.contract.shard_log import SINK, SOURCES
from tests.support.mock_kafka import MockKafka, Request, eventually

FETCH_WAIT_MS = 5
"""The mock cluster holds an empty fetch for its whole time, also when a record arrives."""

CONNECT_MS = 1_000
"""The least that is allowed: the mock broker that is down accepts connections, and is silent."""

SEVERAL_ERRORS = 3
"""Errors in a row that a client is to retry by itself; lost connections cost a second each."""

OVER_S, RIGHTS_OVER_S = 0.3, 2.5
"""How long an error is shown after it was seen last, in these checks; librdkafka waits for a second
before it repeats a fetch that was refused for want of rights."""

SHOWN = 1.4
"""How long an error lasts that must be shown all the time, as a multiple of these times."""

OTHER_SINK = "balances"

Made = TypeVar("Made")


@dataclass(frozen=True)
class Row:
    """What `client` must do when its requests of a type get an error of a kind.

    `request`: None, when the broker is down. `error`: the code that stands for all of its kind.
    `must`: the check; its docstring is what must happen.
    """

    client: str
    request: Request | None
    kind: str
    error: int
    must: Callable[[Scene], None]

    def __str__(self) -> str:
        request = "connection" if self.request is None else self.request.name.lower()
        return f"{self.client}-{request}-{self.kind}-{self.error}"


@dataclass
class Scene:
    """A cluster with the topics of a system, whose requests get the row's error when asked."""

    row: Row
    kafka: MockKafka
    logs: pytest.LogCaptureFixture
    patch: pytest.MonkeyPatch
    stack: ExitStack
    topics: Topics = field(default_factory=lambda: Topics.of("mock", SOURCES, (SINK, OTHER_SINK)))

    def __post_init__(self) -> None:
        self.access = KafkaAccess(self.kafka.address)
        self.kafka.create(*self.topics.all)
        self._requests_before = 0
        self.several = 1 if self.row.kind == "connection" else SEVERAL_ERRORS
        is_slow = self.row.kind == "rights" and self.row.request is not Request.PRODUCE
        self.over_s = RIGHTS_OVER_S if is_slow else OVER_S
        self.logs.set_level("INFO")
        self.configure("_consumer", {"fetch.wait.max.ms": FETCH_WAIT_MS})
        self.configure("_client", {"socket.connection.setup.timeout.ms": CONNECT_MS})

    def configure(self, name: str, changes: Config) -> None:
        """Change the settings that the function `name` of `kafka.settings` returns."""
        original: Callable[..., Config] = getattr(kafka_settings, name)
        self.patch.setattr(kafka_settings, name, lambda *access: original(*access) | changes)

    def close_later(self, client: Made) -> Made:
        """Return `client`, which is closed when the check is over."""
        closed: AbstractContextManager[Any] = closing(client)
        self.stack.enter_context(closed)
        return client

    # --- the error --------------------------------------------------------------------------

    def begin(self) -> None:
        """From now on each request gets the error."""
        self._note_requests()
        if self.row.request is None:
            self.kafka.set_down(True)
        elif self.row.request is Request.METADATA:
            for topic in self.topics.all:
                self.kafka.set_topic_error(topic, self.row.error)
        else:
            self.kafka.fail_all(self.row.request, self.row.error)

    def begin_briefly(self) -> None:
        """The next `several` requests get the error."""
        assert self.row.request is not None
        self._note_requests()
        self.kafka.fail(self.row.request, *[self.row.error] * self.several)

    def _note_requests(self) -> None:
        if self.row.request is not None:
            self._requests_before = self.kafka.requests()[self.row.request]

    def failed(self) -> int:
        """How many requests have got the error since it began; 1 when the broker is down."""
        if self.row.request is None:
            return 1
        return self.kafka.requests()[self.row.request] - self._requests_before

    def end(self) -> None:
        """No further request gets the error."""
        assert self.failed(), "the client has sent no such request: the row checks nothing"
        if self.row.request is None:
            self.kafka.set_down(False)
        elif self.row.request is Request.METADATA:
            for topic in self.topics.all:
                self.kafka.set_topic_error(topic, 0)
        else:
            self.kafka.clear(self.row.request)

    # --- what follows -----------------------------------------------------------------------

    def eventually(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds, which may poll the client."""
        eventually(str(self.row), condition)

    def expect_shown(
        self, poll: Callable[[], object], is_shown: Callable[[], object], time_s: float = 0.0
    ) -> None:
        """The error is shown all the time, for longer than one that does not recur.

        `time_s`: for so long at least, in seconds.
        """
        ends_s = time.monotonic() + max(SHOWN * self.over_s, time_s)
        while time.monotonic() < ends_s:
            poll()
            assert is_shown(), "the error is no longer shown, although it lasts"

    def logged(self, text: str) -> int:
        """How many log lines contain `text`."""
        return sum(text in record.getMessage() for record in self.logs.records)
