"""`python -m services.coordinator.past_query SHARD POINT QUERY`: an answer of the past, as JSON.

A process of its own, since it holds the application's whole state, and ends with it. POINT as
`postjournal.history.bounds.parse_bound` has it, QUERY a JSON object of strings. With exit code 0
stdout has a `ReplayResult`; with 1, a `Failure`.
"""

from __future__ import annotations

import sys

import msgspec

from postjournal.config.variables import process_environment
from postjournal.core.errors import (
    JournalUnavailable,
    PointNotReached,
    PostjournalError,
    RecordsMissing,
    StoreUnavailable,
    StoreUnusable,
)
from postjournal.history.bounds import parse_bound
from postjournal.history.point_in_time import ReplayResult, open_point_in_time

NOT_THERE = (PointNotReached, RecordsMissing)
AWAY = (JournalUnavailable, StoreUnavailable, StoreUnusable)


class Failure(msgspec.Struct):
    """Why there is no answer. `problem`: its type, out of `requests.TITLES`."""

    problem: str
    detail: str


class QueryFailed(Exception):
    """The application's query raised."""


def answer(shard: int, at: str, query: dict[str, str]) -> ReplayResult:
    """Raises `PostjournalError` and `QueryFailed`."""
    with open_point_in_time(process_environment(), shard) as past:
        reader, found = past.replay(parse_bound(at), lambda *_: None)
    found.answer, error = reader.machine.query(query)
    if error is not None:
        raise QueryFailed(f"the application's query {error}")
    return found


def result(shard: int, at: str, query: dict[str, str]) -> ReplayResult | Failure:
    """The answer, or what to tell whoever asked."""
    try:
        return answer(shard, at, query)
    except NOT_THERE as error:
        return Failure("no-such-point", str(error))
    except AWAY as error:
        return Failure("unavailable", str(error))
    except QueryFailed as error:
        return Failure("query-failed", str(error))
    except PostjournalError as error:
        return Failure("replay-failed", str(error))


def main(shard: str, at: str, query: str) -> None:
    """See the module."""
    told = result(int(shard), at, msgspec.json.decode(query, type=dict[str, str]))
    sys.stdout.buffer.write(msgspec.json.encode(told))
    sys.exit(isinstance(told, Failure))


if __name__ == "__main__":
    main(*sys.argv[1:])
