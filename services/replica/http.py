"""The replica's HTTP: liveness, readiness, who leads, metrics, state, reads."""

from __future__ import annotations

import hmac
import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import TimeoutError as AnswerTimeout
from typing import Any

import msgspec
from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import BadRequest, HTTPException

from postjournal.cluster.states import is_in_sync, leads
from services.replica.metrics import registry_of
from services.replica.shard import ShardRunner

QUERY_TIMEOUT_S = 2.0
PATIENCE_MS = 750
"""How long a read waits for the state that it asks for; the gateway gives up after a second."""

SEQUENCE = re.compile(r"[0-9]{1,18}")
ERROR_STATUS = {"not_leader": 409, "not_ready": 503, "behind": 503}


def make_app(replica: str, shards: Sequence[ShardRunner], crash_token: str | None = None) -> Flask:
    """The WSGI application; reads from the shards' threads.

    `crash_token`: None: nobody may crash the replica; else who has it, and all if it is "".
    """
    app = Flask(__name__, static_folder=None)
    app.register_error_handler(HTTPException, _refused)
    registry = registry_of(replica)

    @app.get("/livez")
    def livez() -> Response:
        return _json({"live": True}, 200 if all(each.alive for each in shards) else 503)

    @app.get("/readyz")
    def readyz() -> Response:
        states = {each.shard: each.status.state for each in shards}
        ready = all(is_in_sync(state) for state in states.values())
        return _json({"ready": ready, "shards": states}, 200 if ready else 503)

    @app.get("/leader")
    def leader() -> Response:
        found = _shard_named(shards, _parameters().get("shard", "0"))
        if found is None:
            return _json({"error": "no such shard"}, 404)
        status = found.status
        is_leader = leads(status.state)
        body = {
            "shard": found.shard,
            "leader": status.leader,
            "address": status.leader_address,
            "epoch": status.epoch,
            "is_leader": is_leader,
        }
        return _json(body, 200 if is_leader else 503)

    @app.get("/state")
    def state() -> Response:
        statuses = [each.status for each in shards]
        return _json({"replica": replica, "pid": os.getpid(), "shards": statuses})

    @app.get("/query/<shard>")
    def query(shard: str) -> Response:
        found = _shard_named(shards, shard)
        if found is None:
            return _json({"error": "no such shard"}, 404)
        return _query(replica, found, _parameters())

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    if crash_token is not None:
        _allow_crash(app, crash_token)
    return app


def _allow_crash(app: Flask, token: str) -> None:
    """For demonstrations: dies as `kill -9` would have it."""

    @app.post("/crash")
    def crash() -> Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            return _json({"error": "wrong token"}, 401)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")


def _query(replica: str, shard: ShardRunner, query: dict[str, str]) -> Response:
    consistency = query.pop("consistency", "leader")
    if consistency not in ("leader", "any"):
        return _json({"error": "consistency must be leader or any"}, 400)
    wanted = query.pop("min_seq", None)
    if wanted is not None and not SEQUENCE.fullmatch(wanted):
        return _json({"error": "min_seq must be a whole number from 0"}, 400)
    future = shard.inbox.ask(
        query,
        linearizable=consistency == "leader",
        min_seq=-1 if wanted is None else int(wanted),
        timeout_ms=PATIENCE_MS,
    )
    try:
        answer = future.result(QUERY_TIMEOUT_S)
    except AnswerTimeout:
        future.cancel()
        return _json({"error": "no answer in time"}, 503)
    if answer.error is not None:
        told = {"error": answer.error, "seq": answer.seq, "replica": replica}
        return _json(told, ERROR_STATUS.get(answer.error, 500))
    body = {
        "result": answer.result,
        "seq": answer.seq,
        "epoch": answer.epoch,
        "shard": shard.shard,
        "replica": replica,
    }
    return _json(body, 404 if answer.result is None else 200)


def _parameters() -> dict[str, str]:
    """Raises `BadRequest`."""
    try:
        return request.args.to_dict()
    except UnicodeDecodeError as error:
        raise BadRequest("the query string is no UTF-8: percent-encode its values") from error


def _refused(error: HTTPException) -> Response:
    """Flask's own errors in the form of all others."""
    response = _json({"error": error.description or error.name}, error.code or 500)
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _shard_named(shards: Sequence[ShardRunner], name: str) -> ShardRunner | None:
    return next((each for each in shards if str(each.shard) == name), None)


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, content_type="application/json")
