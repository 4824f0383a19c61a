"""What the HTTP handlers need of the world. Kafka implements it; tests use fakes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from postjournal.cluster.view import ShardView


@dataclass(frozen=True)
class Appended:
    """The command is in the log, acknowledged by all in-sync replicas of Kafka."""

    offset: int


@dataclass(frozen=True)
class NotAppended:
    """It is certain that the command is not in the log and will not be."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """It was sent, and may or may not be in the log, now or later."""

    reason: str


Outcome = Appended | NotAppended | Unknown


Headers = Sequence[tuple[str, bytes]]
"""Of a Kafka record."""


class Record(NamedTuple):
    """A command on its way; `shard`: the partition that its key picks."""

    key: bytes
    shard: int
    value: bytes


class TooBusy(Exception):
    """A bound on what may be under way at once is reached; nothing was sent."""


class Unavailable(Exception):
    """Kafka cannot be used now; nothing was sent. The message says why."""


class CommandLog(Protocol):
    """The topic of commands."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why commands cannot be accepted now; None when they can."""

    def append(self, records: Sequence[Record], headers: Headers = ()) -> list[Outcome]:
        """Append in each shard's order and wait for what became of each; some seconds at most.

        `headers`: of every one of the records.

        Raises `TooBusy` or `Unavailable`, both before anything is sent.
        """


class Expectation(Protocol):
    """One request's wait for one result."""

    def wait(self, timeout_s: float) -> bytes | None:
        """The result record as it stands in the topic; None when it did not come in time."""


class ResultWaiter(Protocol):
    """The topic of results."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why results cannot be waited for now; None when they can."""

    @property
    def is_offered(self) -> bool:
        """Whether the application has a results sink at all."""

    def expect(self, shard: int, command_id: str) -> AbstractContextManager[Expectation]:
        """Watch out for a result from now on. Raises `TooBusy` or `Unavailable`."""


class ReplicaDirectory(Protocol):
    """The replicas and leaders, as the replicas report them."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why no replica can be known; None once the status topic is read."""

    def shard(self, shard: int) -> ShardView | None:
        """The shard's leader and state; None when no replica has reported the shard."""

    def leader_addresses(self, shard: int) -> list[str]:
        """host:port of the leader's HTTP server; [] when none is known."""

    def reader_addresses(self, shard: int) -> list[str]:
        """host:port of the replicas that can answer a read, in the order to try them.

        Standbys take turns; the leader, which has enough to do, comes after them, and those that
        are not in sync come last.
        """

    def wait_for_update(self, timeout_s: float) -> None:
        """Return when a status record has arrived, or after `timeout_s` seconds."""


class ReplicaClient(Protocol):
    """Queries one replica. `postjournal.cluster.query_client.QueryClient` implements it."""

    def query(
        self, address: str, shard: int, parameters: dict[str, str], timeout_s: float
    ) -> dict[str, Any]:
        """Return the replica's answer; its `result` is None for 'not found'.

        `parameters` go to the replica as they are, `consistency` and `min_seq` among them.
        Raises `ReplicaUnavailable`, or its subclass `ReplicaBehind`.
        """
