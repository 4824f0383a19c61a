"""`python -m services.coordinator.past_query SHARD POINT QUERY`: queries a past state.

The coordinator runs it as a process, because it holds the application's whole state. POINT is as
for `postjournal.history.bounds.parse_bound`, QUERY a JSON object of strings. It writes JSON to
stdout: a `ReplayResult` with exit code 0, a `Failure` with exit code 1.
"""

from __future__ import annotations

import sys

import msgspec

from postjournal.config.variables import process_environment
from postjournal.core.errors import PointNotReached, PostjournalError, RecordsMissing
from postjournal.history.bounds import parse_bound
from postjournal.history.point_in_time import ReplayResult, open_point_in_time
from services.coordinator.ports import UNAVAILABLE


class Failure(msgspec.Struct):
    """Why there is no answer. `problem`: a problem type of `services.coordinator.problems`."""

    problem: str
    detail: str


class QueryFailed(Exception):
    """The application's query raised an exception."""


def answer(shard: int, at: str, query: dict[str, str]) -> ReplayResult:
    """Replay up to the point `at` and query the state there.

    Raises `PostjournalError`, and `QueryFailed`.
    """
    with open_point_in_time(process_environment(), shard) as past:
        reader, found = past.replay(parse_bound(at), lambda *_: None)
    found.answer, error = reader.machine.query(query)
    if error is not None:
        raise QueryFailed(f"the application's query {error}")
    return found


def result(shard: int, at: str, query: dict[str, str]) -> ReplayResult | Failure:
    """Return the answer, or the failure as a problem type and its detail."""
    try:
        return answer(shard, at, query)
    except (PointNotReached, RecordsMissing) as error:
        return Failure("no-such-point", str(error))
    except UNAVAILABLE as error:
        return Failure("unavailable", str(error))
    except QueryFailed as error:
        return Failure("query-failed", str(error))
    except PostjournalError as error:
        return Failure("replay-failed", str(error))


def main(shard: str, at: str, query: str) -> None:
    """Run the query of the command line's arguments, and exit."""
    found = result(int(shard), at, msgspec.json.decode(query, type=dict[str, str]))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    sys.exit(isinstance(found, Failure))


if __name__ == "__main__":
    main(*sys.argv[1:])
