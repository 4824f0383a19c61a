"""The gateway's HTTP interface. `make_app` wires the handlers to what they need."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Flask, Response, g, request
from werkzeug.routing import PathConverter

from postjournal.cluster.query_client import ReplicaBehind, ReplicaUnavailable
from postjournal.cluster.topics import shard_of
from services import problems
from services.parameters import shard_number, whole_body
from services.process import REQUESTS
from services.producer import parsing
from services.producer.commands import AWAY_RETRY_S, BUSY_RETRY_S, Accepted, Submitter
from services.producer.metrics import Metrics
from services.producer.parsing import CommandParser
from services.producer.ports import (
    CommandLog,
    ReplicaClient,
    ReplicaDirectory,
    ResultWaiter,
)
from services.producer.problems import TITLES, Problem
from services.producer.reads import Consistency, Reader
from services.producer.tracing import trace_of
from services.web import add_static
from services.web.documents import add_interface_page, add_topics_page

MAX_ACCOUNT_LENGTH = 128

LINKS = (
    ("Interface", "/docs"),
    ("Topics", "/docs/topics"),
    ("OpenAPI", "/api/v1/openapi.json"),
    ("AsyncAPI", "/api/v1/asyncapi.json"),
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Those that are counted by name: what anybody makes up would be one more series each."""

JSON = "application/json"


@dataclass(frozen=True)
class Gateway:
    """What the handlers need."""

    commands: CommandLog
    results: ResultWaiter
    directory: ReplicaDirectory
    replicas: ReplicaClient
    command_type: Any
    shards: int
    metrics: Metrics
    openapi: dict[str, Any]
    asyncapi: dict[str, Any]
    now_s: Callable[[], float] = time.monotonic

    @property
    def unavailable_reason(self) -> str | None:
        """Why commands cannot be accepted now; None when they can."""
        needed = (self.commands, self.results, self.directory)
        reasons = dict.fromkeys(part.unavailable_reason for part in needed)
        return "; ".join(reason for reason in reasons if reason) or None


class _AnyText(PathConverter):
    """All that is left of the path: an account's name may hold slashes, also as its first
    character, and line breaks."""

    regex, part_isolating = "(?s:.+)", False


def make_app(gateway: Gateway) -> Flask:
    """The WSGI application."""
    app = Flask("postjournal-gateway", static_folder=None)
    app.url_map.converters["text"] = _AnyText
    app.url_map.merge_slashes = False  # `//x` is another account than `/x`
    problems.register(app, TITLES)
    _trace_requests(app)
    _measure_requests(app, gateway.metrics)
    _add_commands(app, gateway)
    _add_reads(app, gateway)
    _add_operations(app, gateway)
    return app


def _trace_requests(app: Flask) -> None:
    """Commands take the trace with them into Kafka; `traceresponse` tells the caller which."""

    @app.before_request
    def begin() -> None:
        asked = request.headers
        g.trace = trace_of(asked.get("traceparent"), asked.get("tracestate"))

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers["traceresponse"] = g.trace.parent
        said = {"status": response.status_code, "trace_id": g.trace.trace_id}
        if "command" in g:
            said["id"] = g.command
        REQUESTS.info("%s %s", request.method, request.path, extra=said)
        return response


def _measure_requests(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def stop(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "unmatched"
        method = request.method if request.method in METHODS else "other"
        metrics.requests.labels(route, method, response.status_code).inc()
        metrics.request_seconds.labels(route).observe(time.perf_counter() - g.started)
        return response


def _add_commands(app: Flask, gateway: Gateway) -> None:
    parser = CommandParser(gateway.command_type)
    submitter = Submitter(gateway.commands, gateway.results, gateway.shards, gateway.now_s)

    @app.post("/api/v1/commands")
    def submit() -> Response:
        _check_type(JSON)
        ledger = parsing.ledger_name(request.args.get("ledger"))
        key = parsing.idempotency_key(request.headers.get("Idempotency-Key"))
        command = parser.command(_body(parsing.MAX_COMMAND_BYTES), key, ledger)
        wait_s = parsing.preferred_wait_s(request.headers.getlist("Prefer")) or 0
        g.command = command.id
        accepted = submitter.submit(command, wait_s, g.trace.headers)
        return _accepted(accepted, wait_s if gateway.results.is_offered else 0)

    @app.post("/api/v1/commands/batch")
    def submit_batch() -> Response:
        media_type = _check_type(JSON, *parsing.LINES)
        ledger = parsing.ledger_name(request.args.get("ledger"))
        header = request.headers.get("Idempotency-Key")
        key = parsing.idempotency_key(header, parsing.MAX_BATCH_KEY_LENGTH)
        body = _body(parsing.MAX_BATCH_BYTES)
        split = parser.split_array if media_type == JSON else parser.split_lines
        batch = parser.batch(split(body), key, ledger)
        accepted = submitter.submit_all(batch, g.trace.headers)
        commands = [each.told() for each in accepted]
        return _json({"accepted": len(commands), "commands": commands}, 202)


def _add_reads(app: Flask, gateway: Gateway) -> None:
    reader = Reader(gateway.directory, gateway.replicas)

    @app.get("/api/v1/accounts/<text:account>")
    def account(account: str) -> Response:
        if len(account) > MAX_ACCOUNT_LENGTH:
            raise Problem("malformed-request", f"account: at most {MAX_ACCOUNT_LENGTH} characters")
        ledger = parsing.ledger_name(request.args.get("ledger"))
        shard = shard_of(parsing.ledger_key(ledger), gateway.shards)
        min_seq = parsing.min_seq(request.args.get("min_seq"))
        try:
            answer = reader.read(shard, _consistency(), {"account": account}, min_seq)
        except ReplicaBehind as behind:
            extras = {"seq": behind.seq, "min_seq": min_seq}
            raise Problem("behind", str(behind), retry_after_s=BUSY_RETRY_S, **extras) from behind
        except ReplicaUnavailable as error:
            raise Problem("no-leader", str(error), retry_after_s=AWAY_RETRY_S) from error
        return _account(account, answer)

    @app.get("/api/v1/leader")
    def leader() -> Response:
        asked = request.args.get("shard")
        if asked is None:
            shards = [_leader(gateway.directory, each) for each in range(gateway.shards)]
            return _json({"shards": shards})
        return _json(_leader(gateway.directory, shard_number(asked, gateway.shards)))


def _add_operations(app: Flask, gateway: Gateway) -> None:
    @app.get("/livez")
    def livez() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        if gateway.unavailable_reason:
            raise Problem("unavailable", gateway.unavailable_reason, retry_after_s=AWAY_RETRY_S)
        return _json({"status": "ready"})

    @app.get("/api/v1/openapi.json")
    def openapi() -> Response:
        return _json(gateway.openapi)

    @app.get("/api/v1/asyncapi.json")
    def asyncapi() -> Response:
        return _json(gateway.asyncapi)

    add_interface_page(app, gateway.openapi, LINKS)
    add_topics_page(app, gateway.asyncapi, LINKS)
    add_static(app)


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, content_type=JSON)


def _check_type(*accepted: str) -> str:
    """The body's media type. Raises `Problem`."""
    if request.mimetype not in accepted:
        raise Problem(
            "unsupported-media-type",
            f"Content-Type is {request.mimetype or 'missing'}; use {' or '.join(accepted)}",
            outcome="not_accepted",
        )
    return request.mimetype


def _body(limit: int) -> bytes:
    """Raises `Problem`, also when it is longer than `limit` bytes.

    A chunked body is cut off by werkzeug, not refused: so one byte more than allowed is read.
    """
    request.max_content_length = limit + 1
    told = request.content_length
    body = b"" if told is not None and told > limit else whole_body(outcome="not_accepted")
    if len(body) > limit or (told or 0) > limit:
        raise Problem("too-large", f"at most {limit} bytes", outcome="not_accepted")
    return body


def _accepted(accepted: Accepted, wait_s: int) -> Response:
    if accepted.result is None:
        response = _json(accepted.told(), 202)
    else:
        response = Response(accepted.result, 200, content_type=JSON)
    if wait_s:
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    return response


def _consistency() -> Consistency:
    asked = request.args.get("consistency", "leader")
    if asked == "leader":
        return "leader"
    if asked == "any":
        return "any"
    raise Problem("malformed-request", "consistency: leader or any")


def _account(account: str, answer: dict[str, Any]) -> Response:
    place = {name: answer.get(name) for name in ("seq", "epoch", "shard", "replica")}
    result = answer["result"]
    if result is None:
        raise Problem("unknown-account", f"there is no account {account!r}", **place)
    return _json({**(result if isinstance(result, dict) else {"result": result}), **place})


def _leader(directory: ReplicaDirectory, shard: int) -> dict[str, Any]:
    view = directory.shard(shard)
    if view is None:
        return {"shard": shard, "leader": None, "epoch": None}
    return {
        "shard": shard,
        "leader": view.leader,
        "address": view.address,
        "http": view.http,
        "epoch": view.epoch,
        "since": view.since,
        "state": view.state,
        "seq": view.seq,
    }
