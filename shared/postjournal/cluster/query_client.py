"""The client of the replicas' `GET /query/<shard>`: reads of the application's state."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import msgspec
import requests

from postjournal.cluster.http import direct_session
from postjournal.core.errors import PostjournalError
from postjournal.core.records import UNREADABLE

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 0.25, 1.0
"""A replica of the same data center accepts a connection within milliseconds, and waits at most
750 ms for the state that a read asks for."""


class ReplicaUnavailable(PostjournalError):
    """No answer from a replica: it is unreachable, not the leader, not ready, or too slow."""


class ReplicaBehind(ReplicaUnavailable):
    """The replica waited and has not reached the requested `min_seq`; `seq`: where it is."""

    def __init__(self, reason: str, seq: int) -> None:
        super().__init__(reason)
        self.seq = seq


class QueryFailed(ReplicaUnavailable):
    """The application's `query` raised an exception on the replica (status 500)."""


class QueryClient:
    """Queries replicas over HTTP. Keeps connections open; safe to use from many threads.

    The timeouts are for connecting and for each read of the response, in seconds.
    """

    def __init__(
        self,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._connect_timeout_s, self._read_timeout_s = connect_timeout_s, read_timeout_s
        self._session = direct_session()

    def query(
        self,
        address: str,
        shard: int,
        parameters: Mapping[str, str],
        timeout_s: float = inf,
    ) -> dict[str, Any]:
        """Return the body of the replica's answer: result, seq, epoch, shard and replica.

        `address`: host:port of the replica's HTTP server; `parameters`: the application's query,
        and `consistency` (leader or any) and `min_seq` where the caller sets them; `timeout_s`
        lowers both timeouts. `result` is None when the query found nothing (status 404).

        Raises `ReplicaBehind`, `QueryFailed`, or `ReplicaUnavailable` for everything else; each
        message begins with the address.
        """
        try:
            response = self._session.get(
                f"http://{address}/query/{shard}",
                params=dict(parameters),
                timeout=(
                    min(self._connect_timeout_s, timeout_s),
                    min(self._read_timeout_s, timeout_s),
                ),
            )
            body = msgspec.json.decode(response.content)
        except (requests.RequestException, *UNREADABLE) as error:
            raise ReplicaUnavailable(f"{address}: {error}") from error
        if isinstance(body, dict) and "result" in body:
            return body
        raise _error(address, body, response.status_code)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> QueryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _error(address: str, body: Any, status: int) -> ReplicaUnavailable:
    fields = body if isinstance(body, dict) else {}
    error, seq = fields.get("error"), fields.get("seq")
    if error == "behind" and isinstance(seq, int):
        return ReplicaBehind(f"{address} has reached sequence {seq}", seq)
    message = f"{address}: {error or f'status {status}'}"
    if status == requests.codes.server_error:
        return QueryFailed(message)
    return ReplicaUnavailable(message)
