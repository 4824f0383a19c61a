"""The replica's HTTP interface: liveness, readiness, the leader, the state, reads, metrics."""

from __future__ import annotations

import hmac
import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import TimeoutError as AnswerTimeout

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import BadRequest, HTTPException

from postjournal.cluster.states import ReadError, is_in_sync, leads
from services.replica.metrics import registry_of
from services.replica.shard import ShardRunner
from services.responses import json_response

QUERY_TIMEOUT_S = 2.0
WAIT_FOR_SEQ_MS = 750
"""How long a read waits for its `min_seq`; `QueryClient` gives up after a second."""

SEQUENCE = re.compile(r"[0-9]{1,18}")
ERROR_STATUS: dict[str, int] = {
    ReadError.NOT_LEADER: 409,
    ReadError.NOT_READY: 503,
    ReadError.BEHIND: 503,
}
"""Read error → status; every other error is the application's and gets 500."""


def make_app(replica: str, shards: Sequence[ShardRunner], crash_token: str | None = None) -> Flask:
    """Return the WSGI application.

    `replica`: the replica's name, the label of all metrics; `crash_token`: enables `POST /crash`
    for callers with this bearer token, for all callers if it is ""; None disables it.
    """
    app = Flask(__name__, static_folder=None)
    app.register_error_handler(HTTPException, _on_http_error)
    _add_health(app, shards)
    _add_state(app, replica, shards)
    _add_query(app, replica, shards)
    _add_metrics(app, replica)
    if crash_token is not None:
        _add_crash(app, crash_token)
    return app


def _add_health(app: Flask, shards: Sequence[ShardRunner]) -> None:
    @app.get("/livez")
    def livez() -> Response:
        """200 while the loop of every shard turns or has halted, otherwise 503."""
        is_live = all(shard.alive for shard in shards)
        return json_response({"live": True}, 200 if is_live else 503)

    @app.get("/readyz")
    def readyz() -> Response:
        """200 when every shard is in sync, otherwise 503; `shards`: number → state."""
        states = {shard.shard: shard.status.state for shard in shards}
        is_ready = all(is_in_sync(state) for state in states.values())
        return json_response({"ready": is_ready, "shards": states}, 200 if is_ready else 503)


def _add_state(app: Flask, replica: str, shards: Sequence[ShardRunner]) -> None:
    @app.get("/leader")
    def leader() -> Response:
        """The leader of `?shard=N` (default 0) as this replica's journal has it.

        200 only if this replica leads the shard, otherwise 503: for load balancers. 404 for a
        shard that does not exist.
        """
        shard = _find(shards, _parameters().get("shard", "0"))
        if shard is None:
            return _no_such_shard()
        status = shard.status
        is_leader = leads(status.state)
        body = {
            "shard": shard.shard,
            "leader": status.leader,
            "address": status.leader_address,
            "epoch": status.epoch,
            "is_leader": is_leader,
        }
        return json_response(body, 200 if is_leader else 503)

    @app.get("/state")
    def state() -> Response:
        """The replica's name, its process id, and its status records, one for each shard."""
        statuses = [shard.status for shard in shards]
        return json_response({"replica": replica, "pid": os.getpid(), "shards": statuses})


def _add_query(app: Flask, replica: str, shards: Sequence[ShardRunner]) -> None:
    @app.get("/query/<shard>")
    def query(shard: str) -> Response:
        """Query the application's state: `result`, `seq`, `epoch`, `shard` and `replica`.

        Parameters: `consistency` (leader, the default, or any), `min_seq`, and the application's.
        404 with a null `result` when the query finds nothing. Errors have `error` and `seq`: 409
        not_leader; 503 not_ready, behind or no answer in time; 500 an error of the application.
        """
        found = _find(shards, shard)
        if found is None:
            return _no_such_shard()
        return _query(replica, found, _parameters())


def _add_metrics(app: Flask, replica: str) -> None:
    registry = registry_of(replica)

    @app.get("/metrics")
    def metrics() -> Response:
        """The metrics of the process in the text format of Prometheus."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _add_crash(app: Flask, token: str) -> None:
    @app.post("/crash")
    def crash() -> Response:
        """Kill this process with SIGKILL, for demonstrations; 401 without the token."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            return json_response({"error": "wrong token"}, 401)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL did not end the process")


def _query(replica: str, shard: ShardRunner, parameters: dict[str, str]) -> Response:
    consistency = parameters.pop("consistency", "leader")
    if consistency not in ("leader", "any"):
        return json_response({"error": "consistency must be leader or any"}, 400)
    min_seq = parameters.pop("min_seq", None)
    if min_seq is not None and not SEQUENCE.fullmatch(min_seq):
        return json_response({"error": "min_seq must be a whole number from 0"}, 400)
    future = shard.inbox.ask(
        parameters,
        linearizable=consistency == "leader",
        min_seq=-1 if min_seq is None else int(min_seq),
        timeout_ms=WAIT_FOR_SEQ_MS,
    )
    try:
        answer = future.result(QUERY_TIMEOUT_S)
    except AnswerTimeout:
        future.cancel()
        return json_response({"error": "no answer in time"}, 503)
    if answer.error is not None:
        error = {"error": answer.error, "seq": answer.seq, "replica": replica}
        return json_response(error, ERROR_STATUS.get(answer.error, 500))
    body = {
        "result": answer.result,
        "seq": answer.seq,
        "epoch": answer.epoch,
        "shard": shard.shard,
        "replica": replica,
    }
    return json_response(body, 404 if answer.result is None else 200)


def _parameters() -> dict[str, str]:
    """The parameters of the query string. Raises `BadRequest`."""
    try:
        return request.args.to_dict()
    except UnicodeDecodeError as error:
        raise BadRequest("the query string is not UTF-8: percent-encode its values") from error


def _on_http_error(error: HTTPException) -> Response:
    """Flask's own errors, in the form of all other errors."""
    response = json_response({"error": error.description or error.name}, error.code or 500)
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _find(shards: Sequence[ShardRunner], number: str) -> ShardRunner | None:
    return next((shard for shard in shards if str(shard.shard) == number), None)


def _no_such_shard() -> Response:
    return json_response({"error": "no such shard"}, 404)
