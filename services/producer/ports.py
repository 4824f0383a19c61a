"""The ports of the HTTP handlers. Kafka and the replicas implement them; tests use fakes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from postjournal.cluster.view import ShardView


@dataclass(frozen=True)
class Appended:
    """The command is in the log; all in-sync replicas of Kafka have acknowledged it."""

    offset: int


@dataclass(frozen=True)
class NotAppended:
    """The command is certainly not in the log, now or later."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """The command was sent, and may or may not be in the log, now or later."""

    reason: str


Outcome = Appended | NotAppended | Unknown

Headers = Sequence[tuple[str, bytes]]
"""The headers of a Kafka record."""


class Record(NamedTuple):
    """The Kafka record of a command; `shard`: the partition that `key` selects."""

    key: bytes
    shard: int
    value: bytes


class TooBusy(Exception):
    """Too many commands or requests are in progress; nothing was sent."""


class Unavailable(Exception):
    """Kafka cannot be used now; nothing was sent. The message has the reason."""


class CommandLog(Protocol):
    """The command topic: appends commands to the partitions of the shards."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why commands cannot be accepted now; None when they can."""

    def append(self, records: Sequence[Record], headers: Headers = ()) -> list[Outcome]:
        """Append the records and return the outcome of each, in their order.

        Records of a shard are appended in their order. Waits some seconds at most; a record that
        is not acknowledged by then is `Unknown`. `headers`: of every record. Raises `TooBusy` or
        `Unavailable`, both before anything is sent.
        """


class Expectation(Protocol):
    """One request's wait for one result."""

    def wait(self, timeout_s: float) -> bytes | None:
        """Return the record of the results topic; None when it has not come in time."""


class ResultWaiter(Protocol):
    """The results topic: waits for the results of commands."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why results cannot be waited for now; None when they can."""

    @property
    def is_offered(self) -> bool:
        """Whether the application has a results sink at all."""

    def expect(self, shard: int, command_id: str) -> AbstractContextManager[Expectation]:
        """Follow the results from now on, for one command. Raises `TooBusy` or `Unavailable`."""


class ReplicaDirectory(Protocol):
    """The replicas and leaders, as the replicas report them."""

    @property
    def unavailable_reason(self) -> str | None:
        """Why the replicas are not known; None once the status topic is read."""

    def shard(self, shard: int) -> ShardView | None:
        """The shard's leader and state; None when no replica has reported the shard."""

    def leader_addresses(self, shard: int) -> list[str]:
        """host:port of the leader's HTTP server; [] when no leader is known."""

    def reader_addresses(self, shard: int) -> list[str]:
        """host:port of the replicas that can answer a read, in the order to try them.

        Standbys take turns; the leader comes after them, because it has the most work; replicas
        that are not in sync come last.
        """

    def error(self, shard: int) -> str | None:
        """What replicas of the shard report: why one has halted, or makes no progress."""

    def wait_for_update(self, timeout_s: float) -> None:
        """Return when a status record has arrived, or after `timeout_s` seconds."""


class ReplicaClient(Protocol):
    """Queries one replica. `postjournal.cluster.query_client.QueryClient` implements it."""

    def query(
        self, address: str, shard: int, parameters: dict[str, str], timeout_s: float
    ) -> dict[str, Any]:
        """Return the replica's answer; its `result` is None when the query found nothing.

        `address`: host:port; `parameters`: of the query, with `consistency` and `min_seq`. Raises
        `ReplicaUnavailable`, or its subclass `ReplicaBehind`.
        """
