"""`python -m services.coordinator.past SHARD POINT QUERY`: an answer of the past, as JSON.

A process of its own, since it holds the application's whole state, and ends with it. POINT as
`postjournal.points.parse_bound` has it, QUERY a JSON object of strings. What cannot be done is told
in the last line of stderr, with exit code 1.
"""

from __future__ import annotations

import os
import sys

import msgspec

from postjournal.core.errors import PostjournalError
from postjournal.past import Found, open_past
from postjournal.points import parse_bound


def answer(shard: int, at: str, query: dict[str, str]) -> Found:
    """Raises `PostjournalError`."""
    with open_past(os.environ, shard) as past:
        reader, found = past.replay(parse_bound(at), lambda *_: None)
    found.answer, error = reader.machine.query(query)
    if error is not None:
        raise PostjournalError(f"the application's query {error}")
    return found


def main(shard: str, at: str, query: str) -> None:
    """See the module."""
    try:
        found = answer(int(shard), at, msgspec.json.decode(query, type=dict[str, str]))
    except PostjournalError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
