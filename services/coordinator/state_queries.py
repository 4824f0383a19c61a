"""Queries of the application's state: the current one on the leader, a past one by replay."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from threading import BoundedSemaphore
from typing import Any

import msgspec

from postjournal.cluster.query_client import QueryClient, QueryFailed, ReplicaUnavailable
from postjournal.cluster.view import ShardView
from postjournal.core.errors import ConfigurationError
from postjournal.core.records import UNREADABLE
from postjournal.history.bounds import parse_bound
from services.coordinator.cluster_state import ClusterState
from services.coordinator.past_query import Failure
from services.coordinator.problems import RETRY_AFTER_S
from services.problems import Problem

NOW = "now"
ANSWER_TIMEOUT_S = 3.0
REPLAY_TIMEOUT_S = 60.0
MAX_REPLAYS = 2
"""At the same time: each is a process that holds the application's whole state."""

OUT_OF_MEMORY = (
    "it may have run out of memory: raise COORDINATOR_MEMORY in .env, or use `./postjournal replay`"
)

log = logging.getLogger(__name__)


class StateQueries:
    """Queries the current and past states of all shards. Safe to use from many threads."""

    def __init__(self, cluster_state: ClusterState) -> None:
        self._cluster_state = cluster_state
        self._replays = BoundedSemaphore(MAX_REPLAYS)
        self._client = QueryClient(ANSWER_TIMEOUT_S, ANSWER_TIMEOUT_S)

    def now(self, shard: int, query: dict[str, str]) -> dict[str, Any]:
        """Return the leader's linearizable answer: shard, at, answer, seq, epoch and replica.

        `query`: the application's parameters. Raises `Problem`: no-leader, unavailable or
        query-failed.
        """
        address = self._cluster_state.read(lambda view, _: _leader_http(view.shards.get(shard)))
        if address is None:
            raise Problem("no-leader", f"shard {shard} has no leader", retry_after_s=RETRY_AFTER_S)
        try:
            body = self._client.query(address, shard, {**query, "consistency": "leader"})
        except QueryFailed as error:
            raise Problem("query-failed", str(error)) from error
        except ReplicaUnavailable as error:
            raise Problem("unavailable", str(error), retry_after_s=RETRY_AFTER_S) from error
        fields = {name: body.get(name) for name in ("seq", "epoch", "replica")}
        return {"shard": shard, "at": NOW, "answer": body["result"], **fields}

    def past(self, shard: int, at: str, query: dict[str, str]) -> dict[str, Any]:
        """Return the answer of a past state, replayed in a child process.

        `at`: offset:N, seq:N or time:T; the replay starts from the nearest snapshot before it. The
        answer has shard, at, answer, seq, epoch, offset, time and seconds (of the replay). Raises
        `Problem`: malformed-request, too-busy, too-slow, replay-failed, or that of the `Failure`.
        """
        try:
            parse_bound(at)
        except ConfigurationError as error:
            raise Problem("malformed-request", str(error)) from error
        if not self._replays.acquire(blocking=False):
            raise Problem(
                "too-busy", f"{MAX_REPLAYS} replays are running", retry_after_s=RETRY_AFTER_S
            )
        try:
            found = _replay(shard, at, query)
        finally:
            self._replays.release()
        fields = {name: found.get(name) for name in ("seq", "epoch", "offset", "time", "seconds")}
        return {"shard": shard, "at": at, "answer": found.get("answer"), **fields}


def _leader_http(shard: ShardView | None) -> str | None:
    return shard.http if shard is not None and shard.leader else None


def _replay(shard: int, at: str, query: dict[str, str]) -> dict[str, Any]:
    parameters = msgspec.json.encode(query).decode()
    command = [sys.executable, "-m", "services.coordinator.past_query", str(shard), at, parameters]
    try:
        done = subprocess.run(command, capture_output=True, timeout=REPLAY_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        detail = f"the replay takes more than {REPLAY_TIMEOUT_S:.0f} s; use `./postjournal replay`"
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
        if done.returncode == -signal.SIGKILL:
            detail = f"{detail}; {OUT_OF_MEMORY}"
        return Problem("replay-failed", detail)
    retry_after_s = RETRY_AFTER_S if failure.problem == "unavailable" else None
    return Problem(failure.problem, failure.detail, retry_after_s=retry_after_s)
