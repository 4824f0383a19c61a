"""The gateway's HTTP interface: the handlers, and the Flask application that has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.routing import PathConverter

from postjournal.cluster.query_client import ReplicaBehind, ReplicaUnavailable
from postjournal.cluster.topics import shard_of
from services import problems
from services.parameters import shard_number, whole_body
from services.process import REQUESTS
from services.producer import parsing
from services.producer.commands import (
    BUSY_RETRY_S,
    UNAVAILABLE_RETRY_S,
    Accepted,
    Submitter,
)
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
from services.responses import JSON, json_response
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
"""The methods that are counted by name; all others are counted together, because a client could
otherwise create any number of series."""


@dataclass(frozen=True)
class Gateway:
    """The dependencies of the handlers.

    `command_type`: the application's; `shards`: partitions of the command topic; `openapi`,
    `asyncapi`: the documents that describe the interface and the topics; `now_s`: the clock of
    waiting requests, in seconds.
    """

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
    """The rest of the path: an account's name may contain line breaks and slashes, also as its
    first character."""

    regex, part_isolating = "(?s:.+)", False


def make_app(gateway: Gateway) -> Flask:
    """Return the WSGI application of a gateway with these dependencies."""
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
    """Continue the caller's trace: into the commands' records, the log and `traceresponse`."""

    @app.before_request
    def continue_trace() -> None:
        headers = request.headers
        g.trace = trace_of(headers.get("traceparent"), headers.get("tracestate"))

    @app.after_request
    def report_trace(response: Response) -> Response:
        response.headers["traceresponse"] = g.trace.parent
        fields = {"status": response.status_code, "trace_id": g.trace.trace_id}
        if "command" in g:
            fields["id"] = g.command
        REQUESTS.info("%s %s", request.method, request.path, extra=fields)
        return response


def _measure_requests(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def start_timer() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
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
        """Submit one command: 202 with id, shard and offset once Kafka's in-sync replicas have it.

        With `Prefer: wait=N` and a result within N seconds, 200 with the record of the results
        topic. Errors are problems (RFC 9457); their member `outcome` is not_accepted or unknown.
        """
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
        """Submit a JSON array, or lines of JSON: 202 with id, shard and offset of each command.

        Nothing is sent unless all commands are valid. If Kafka acknowledges only a part, the
        problem's `commands` has the outcome of each command.
        """
        media_type = _check_type(JSON, *parsing.LINE_TYPES)
        ledger = parsing.ledger_name(request.args.get("ledger"))
        header = request.headers.get("Idempotency-Key")
        key = parsing.idempotency_key(header, parsing.MAX_BATCH_KEY_LENGTH)
        body = _body(parsing.MAX_BATCH_BYTES)
        split = parser.split_array if media_type == JSON else parser.split_lines
        batch = parser.batch(split(body), key, ledger)
        accepted = submitter.submit_all(batch, g.trace.headers)
        commands = [command.to_dict() for command in accepted]
        return json_response({"accepted": len(commands), "commands": commands}, 202)


def _add_reads(app: Flask, gateway: Gateway) -> None:
    reader = Reader(gateway.directory, gateway.replicas)

    @app.get("/api/v1/accounts/<text:account>")
    def account(account: str) -> Response:
        """The account's fields, and the seq, epoch, shard and replica that the answer is from.

        404 `unknown-account`; 503 `behind` when no replica reaches `min_seq` in time, 503
        `no-leader` when no replica answers.
        """
        if len(account) > MAX_ACCOUNT_LENGTH:
            raise Problem(
                "malformed-request",
                f"the account has {len(account)} characters; at most {MAX_ACCOUNT_LENGTH} are "
                "allowed",
            )
        ledger = parsing.ledger_name(request.args.get("ledger"))
        shard = shard_of(parsing.ledger_key(ledger), gateway.shards)
        min_seq = parsing.min_seq(request.args.get("min_seq"))
        try:
            answer = reader.read(shard, _consistency(), {"account": account}, min_seq)
        except ReplicaBehind as behind:
            extras = {"seq": behind.seq, "min_seq": min_seq}
            raise Problem("behind", str(behind), retry_after_s=BUSY_RETRY_S, **extras) from behind
        except ReplicaUnavailable as error:
            raise Problem("no-leader", str(error), retry_after_s=UNAVAILABLE_RETRY_S) from error
        return _account(account, answer)

    @app.get("/api/v1/leader")
    def leader() -> Response:
        """The leader of one shard (`?shard=N`), or `{"shards": [...]}` with that of each.

        `leader` and `epoch` are null while none is known. 404 for a shard that does not exist.
        """
        number = request.args.get("shard")
        if number is not None:
            shard = shard_number(number, gateway.shards)
            return json_response(_leader(gateway.directory, shard))
        shards = [_leader(gateway.directory, shard) for shard in range(gateway.shards)]
        return json_response({"shards": shards})


def _add_operations(app: Flask, gateway: Gateway) -> None:
    @app.get("/livez")
    def livez() -> Response:
        """200 as long as the process answers, also without Kafka."""
        return json_response({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        """200 while commands are accepted; otherwise 503 with the reason."""
        reason = gateway.unavailable_reason
        if reason:
            raise Problem("unavailable", reason, retry_after_s=UNAVAILABLE_RETRY_S)
        return json_response({"status": "ready"})

    @app.get("/api/v1/openapi.json")
    def openapi() -> Response:
        return json_response(gateway.openapi)

    @app.get("/api/v1/asyncapi.json")
    def asyncapi() -> Response:
        return json_response(gateway.asyncapi)

    add_interface_page(app, gateway.openapi, LINKS)
    add_topics_page(app, gateway.asyncapi, LINKS)
    add_static(app)


def _check_type(*accepted: str) -> str:
    """The body's media type. Raises `Problem` when it is not one of `accepted`."""
    if request.mimetype not in accepted:
        raise Problem(
            "unsupported-media-type",
            f"Content-Type is {request.mimetype or 'missing'}; use {' or '.join(accepted)}",
            outcome="not_accepted",
        )
    return request.mimetype


def _body(limit: int) -> bytes:
    """The body. Raises `Problem` when it is truncated or longer than `limit` bytes.

    werkzeug truncates a chunked body at its limit instead of refusing it, so one byte more than
    allowed is read.
    """
    request.max_content_length = limit + 1
    length = request.content_length or 0
    if length <= limit:
        body = whole_body(outcome="not_accepted")
        if len(body) <= limit:
            return body
    raise Problem("too-large", f"the body is larger than {limit} bytes", outcome="not_accepted")


def _accepted(accepted: Accepted, wait_s: int) -> Response:
    if accepted.result is None:
        response = json_response(accepted.to_dict(), 202)
    else:
        response = Response(accepted.result, 200, content_type=JSON)
    if wait_s:
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    return response


def _consistency() -> Consistency:
    value = request.args.get("consistency", "leader")
    if value == "leader":
        return "leader"
    if value == "any":
        return "any"
    raise Problem("malformed-request", f"invalid consistency {value!r}: use leader or any")


def _account(account: str, answer: dict[str, Any]) -> Response:
    position = {name: answer.get(name) for name in ("seq", "epoch", "shard", "replica")}
    result = answer["result"]
    if result is None:
        raise Problem("unknown-account", f"account {account!r} does not exist", **position)
    return json_response(
        {**(result if isinstance(result, dict) else {"result": result}), **position}
    )


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
