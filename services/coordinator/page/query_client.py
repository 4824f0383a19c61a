"""A query of the application's state: as it is, by the leader; as it was, by a replay."""

from __future__ import annotations

import logging
import subprocess
import sys
from threading import BoundedSemaphore
from typing import Any

import msgspec
import requests

from postjournal.core.errors import ConfigurationError
from postjournal.core.records import UNREADABLE
from postjournal.history.bounds import parse_bound
from services.coordinator.following import ClusterState
from services.coordinator.past_query import Failure
from services.problems import Problem

NOW = "now"
ANSWER_S = 3.0
REPLAY_S = 60.0
REPLAYS = 2
"""At once: each is a process of its own, with the application's whole state in it."""

RETRY_S = 2
KILLED = "it may have run out of memory: COORDINATOR_MEMORY of .env, or `./postjournal replay`"

log = logging.getLogger(__name__)


class QueryClient:
    """Safe to use from many threads. Raises `Problem`."""

    def __init__(self, cluster_state: ClusterState) -> None:
        """Nothing is asked yet."""
        self._knowledge = cluster_state
        self._replays = BoundedSemaphore(REPLAYS)
        self._session = requests.Session()
        self._session.trust_env = False  # replicas are never behind a proxy

    def now(self, shard: int, query: dict[str, str]) -> dict[str, Any]:
        """Linearizable."""
        address = self._knowledge.look(lambda view, _: _leader_http(view.shards.get(shard)))
        if address is None:
            raise Problem("no-leader", f"shard {shard} has no leader", retry_after_s=RETRY_S)
        try:
            answer = self._session.get(
                f"http://{address}/query/{shard}",
                params={**query, "consistency": "leader"},
                timeout=ANSWER_S,
            )
            body = msgspec.json.decode(answer.content)
        except (requests.RequestException, *UNREADABLE) as error:
            raise Problem("unavailable", f"{address}: {error}", retry_after_s=RETRY_S) from error
        if answer.status_code == requests.codes.server_error:
            raise Problem("query-failed", f"{address}: {body.get('error')}")
        if "result" not in body:
            why = f"{address}: {body.get('error')}"
            raise Problem("unavailable", why, retry_after_s=RETRY_S)
        told = {name: body.get(name) for name in ("seq", "epoch", "replica")}
        return {"shard": shard, "at": NOW, "answer": body["result"], **told}

    def past(self, shard: int, at: str, query: dict[str, str]) -> dict[str, Any]:
        """`at`: offset:N, seq:N or time:T. The nearest snapshot, and the journal from there."""
        try:
            parse_bound(at)
        except ConfigurationError as error:
            raise Problem("malformed-request", str(error)) from error
        if not self._replays.acquire(blocking=False):
            raise Problem("too-busy", f"{REPLAYS} replays are under way", retry_after_s=RETRY_S)
        try:
            found = _replay(shard, at, query)
        finally:
            self._replays.release()
        told = {name: found.get(name) for name in ("seq", "epoch", "offset", "time", "seconds")}
        return {"shard": shard, "at": at, "answer": found.get("answer"), **told}


def _leader_http(shard: Any) -> str | None:
    return shard.http if shard is not None and shard.leader else None


def _replay(shard: int, at: str, query: dict[str, str]) -> dict[str, Any]:
    asked = msgspec.json.encode(query).decode()
    command = [sys.executable, "-m", "services.coordinator.past_query", str(shard), at, asked]
    try:
        done = subprocess.run(command, capture_output=True, timeout=REPLAY_S, check=False)
    except subprocess.TimeoutExpired as error:
        why = f"the replay takes longer than {REPLAY_S:.0f} s: use `./postjournal replay`"
        raise Problem("too-slow", why) from error
    if done.returncode != 0:
        raise _problem(done)
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found


def _problem(done: subprocess.CompletedProcess[bytes]) -> Problem:
    """Of a replay that told why it has no answer, or that died."""
    try:
        failure = msgspec.json.decode(done.stdout, type=Failure)
    except UNREADABLE:
        said = done.stderr.decode("utf-8", "replace").strip()
        log.error("a replay ended with code %d: %s", done.returncode, said or "it said nothing")
        why = f"the replay ended with code {done.returncode}: see the coordinator's log"
        return Problem("replay-failed", f"{why}; {KILLED}" if done.returncode == -9 else why)
    is_away = failure.problem == "unavailable"
    return Problem(failure.problem, failure.detail, retry_after_s=RETRY_S if is_away else None)
