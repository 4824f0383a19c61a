"""The replica's HTTP interface: liveness, readiness, the leader, the state, reads, metrics."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

import msgspec
from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import BadRequest, HTTPException

from postjournal.cluster.states import ReadError, is_in_sync, leads
from services.replica import messages as m
from services.replica.engines import Engines, ShardEngine
from services.replica.exposition import registry_of
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

PARENT_SILENT_S = 5.0
"""The replica's main process, which speaks once a second, is stuck when it was not heard for
this long."""


def make_app(
    replica: str, engines: Engines, crash: Callable[[], None], crash_token: str | None = None
) -> Flask:
    """Return the WSGI application.

    `replica`: the replica's name, the label of all metrics; `crash()` kills the replica;
    `crash_token`: enables `POST /crash` for callers with this bearer token, for all callers if it
    is ""; None disables it.
    """
    app = Flask(__name__, static_folder=None)
    app.register_error_handler(HTTPException, _on_http_error)
    _add_health(app, engines)
    _add_state(app, replica, engines)
    _add_query(app, replica, engines)
    _add_metrics(app, replica, engines)
    if crash_token is not None:
        _add_crash(app, crash, crash_token)
    return app


def _add_health(app: Flask, engines: Engines) -> None:
    @app.get("/livez")
    def livez() -> Response:
        """200 while the engine of every shard runs and its loop turns, otherwise 503.

        `ill`: shard → what is wrong. A halted shard is not ill: no restart would help it.
        """
        ill = {engine.shard: engine.state.ill for engine in engines.all if engine.state.ill}
        is_live = not ill and engines.silent_s < PARENT_SILENT_S
        return json_response({"live": is_live, "ill": ill}, 200 if is_live else 503)

    @app.get("/readyz")
    def readyz() -> Response:
        """200 when every shard is in sync, otherwise 503; `shards`: number → state."""
        states = {engine.shard: engine.role for engine in engines.all}
        is_ready = all(is_in_sync(state) for state in states.values())
        return json_response({"ready": is_ready, "shards": states}, 200 if is_ready else 503)


def _add_state(app: Flask, replica: str, engines: Engines) -> None:
    @app.get("/leader")
    def leader() -> Response:
        """The leader of `?shard=N` (default 0) as this replica's journal has it.

        200 only if this replica leads the shard, otherwise 503: for load balancers. 404 for a
        shard that does not exist.
        """
        engine = engines.find(_parameters().get("shard", "0"))
        if engine is None:
            return _no_such_shard()
        status, is_leader = engine.status, leads(engine.role)
        body = {
            "shard": engine.shard,
            "leader": status.leader if status else None,
            "address": status.leader_address if status else None,
            "epoch": status.epoch if status else 0,
            "is_leader": is_leader,
        }
        return json_response(body, 200 if is_leader else 503)

    @app.get("/state")
    def state() -> Response:
        """The replica's name, its main process, and the latest status record of each shard.

        503 until every shard has one: the replica waits for Kafka.
        """
        statuses = [engine.status for engine in engines.all]
        if None in statuses:
            return json_response({"error": "not every shard has started yet"}, 503)
        return json_response({"replica": replica, "pid": engines.parent, "shards": statuses})


def _add_query(app: Flask, replica: str, engines: Engines) -> None:
    @app.get("/query/<shard>")
    def query(shard: str) -> Response:
        """Query the application's state: `result`, `seq`, `epoch`, `shard` and `replica`.

        Parameters: `consistency` (leader, the default, or any), `min_seq`, and the application's.
        404 with a null `result` when the query finds nothing. Errors have `error` and `seq`: 409
        not_leader; 503 not_ready, behind or no answer in time; 500 an error of the application.
        """
        found = engines.find(shard)
        if found is None:
            return _no_such_shard()
        return _query(replica, found, _parameters())


def _add_metrics(app: Flask, replica: str, engines: Engines) -> None:
    registry = registry_of(replica, engines)

    @app.get("/metrics")
    def metrics() -> Response:
        """The metrics of the replica in the text format of Prometheus."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _add_crash(app: Flask, kill: Callable[[], None], token: str) -> None:
    @app.post("/crash")
    def crash() -> Response:
        """Kill the replica with SIGKILL, for demonstrations; 401 without the token."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            return json_response({"error": "wrong token"}, 401)
        kill()
        return json_response({"crashing": True}, 202)


def _query(replica: str, engine: ShardEngine, parameters: dict[str, str]) -> Response:
    consistency = parameters.pop("consistency", "leader")
    if consistency not in ("leader", "any"):
        return json_response({"error": "consistency must be leader or any"}, 400)
    min_seq = parameters.pop("min_seq", None)
    if min_seq is not None and not SEQUENCE.fullmatch(min_seq):
        return json_response({"error": "min_seq must be a whole number from 0"}, 400)
    query = m.Query(
        0,
        parameters,
        linearizable=consistency == "leader",
        min_seq=-1 if min_seq is None else int(min_seq),
        timeout_ms=WAIT_FOR_SEQ_MS,
    )
    answer = engine.ask(query, QUERY_TIMEOUT_S)
    if answer is None:
        return json_response({"error": "no answer in time"}, 503)
    if answer.error is not None:
        error = {"error": answer.error, "seq": answer.seq, "replica": replica}
        return json_response(error, ERROR_STATUS.get(answer.error, 500))
    body = {
        "result": msgspec.Raw(answer.result),
        "seq": answer.seq,
        "epoch": answer.epoch,
        "shard": engine.shard,
        "replica": replica,
    }
    return json_response(body, 404 if answer.result == b"null" else 200)


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


def _no_such_shard() -> Response:
    return json_response({"error": "no such shard"}, 404)
