"""Queries of the application's state: the present from the leader, the past from a replay."""

from __future__ import annotations

import logging
import subprocess
import sys
from threading import BoundedSemaphore
from typing import Any

import msgspec

from postjournal.cluster.query_client import QueryClient, QueryFailed, ReplicaUnavailable
from postjournal.core.errors import ConfigurationError
from postjournal.core.records import UNREADABLE
from postjournal.history.bounds import parse_bound
from services.coordinator.following import ClusterState
from services.coordinator.past_query import Failure
from services.problems import Problem

NOW = "now"
ANSWER_S = 3.0
REPLAY_S = 60.0
MAX_REPLAYS = 2
"""Concurrent ones: each is a process that holds the application's whole state."""

RETRY_S = 2
KILLED = "it may have run out of memory: COORDINATOR_MEMORY of .env, or `./postjournal replay`"

log = logging.getLogger(__name__)


class StateQueries:
    """Queries of the present and of past state. Safe to use from many threads."""

    def __init__(self, cluster_state: ClusterState) -> None:
        self._cluster_state = cluster_state
        self._replays = BoundedSemaphore(MAX_REPLAYS)
        self._client = QueryClient(connect_timeout_s=ANSWER_S, read_timeout_s=ANSWER_S)

    def now(self, shard: int, query: dict[str, str]) -> dict[str, Any]:
        """Return the leader's linearizable answer. Raises `Problem`."""
        address = self._cluster_state.look(lambda view, _: _leader_http(view.shards.get(shard)))
        if address is None:
            raise Problem("no-leader", f"shard {shard} has no leader", retry_after_s=RETRY_S)
        try:
            body = self._client.query(address, shard, {**query, "consistency": "leader"})
        except QueryFailed as error:
            raise Problem("query-failed", str(error)) from error
        except ReplicaUnavailable as error:
            raise Problem("unavailable", str(error), retry_after_s=RETRY_S) from error
        fields = {name: body.get(name) for name in ("seq", "epoch", "replica")}
        return {"shard": shard, "at": NOW, "answer": body["result"], **fields}

    def past(self, shard: int, at: str, query: dict[str, str]) -> dict[str, Any]:
        """Return the answer at `at` (offset:N, seq:N or time:T), replayed in a child process.

        The replay starts from the nearest snapshot before that point. Raises `Problem`.
        """
        try:
            parse_bound(at)
        except ConfigurationError as error:
            raise Problem("malformed-request", str(error)) from error
        if not self._replays.acquire(blocking=False):
            raise Problem("too-busy", f"{MAX_REPLAYS} replays are running", retry_after_s=RETRY_S)
        try:
            found = _replay(shard, at, query)
        finally:
            self._replays.release()
        fields = {name: found.get(name) for name in ("seq", "epoch", "offset", "time", "seconds")}
        return {"shard": shard, "at": at, "answer": found.get("answer"), **fields}


def _leader_http(shard: Any) -> str | None:
    return shard.http if shard is not None and shard.leader else None


def _replay(shard: int, at: str, query: dict[str, str]) -> dict[str, Any]:
    parameters = msgspec.json.encode(query).decode()
    command = [sys.executable, "-m", "services.coordinator.past_query", str(shard), at, parameters]
    try:
        done = subprocess.run(command, capture_output=True, timeout=REPLAY_S, check=False)
    except subprocess.TimeoutExpired as error:
        detail = f"the replay takes longer than {REPLAY_S:.0f} s: use `./postjournal replay`"
        raise Problem("too-slow", detail) from error
    if done.returncode != 0:
        raise _problem(done)
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found


def _problem(done: subprocess.CompletedProcess[bytes]) -> Problem:
    """The problem of a replay that reported a failure, or that died."""
    try:
        failure = msgspec.json.decode(done.stdout, type=Failure)
    except UNREADABLE:
        stderr = done.stderr.decode("utf-8", "replace").strip()
        log.error("replay exited with status %d: %s", done.returncode, stderr or "no error output")
        detail = f"the replay exited with status {done.returncode}: see the coordinator's log"
        return Problem("replay-failed", f"{detail}; {KILLED}" if done.returncode == -9 else detail)
    retry_after_s = RETRY_S if failure.problem == "unavailable" else None
    return Problem(failure.problem, failure.detail, retry_after_s=retry_after_s)
