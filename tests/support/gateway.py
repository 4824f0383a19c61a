"""The gateway's HTTP interface on a fake log, fake results and fake replicas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from postjournal.cluster.query_client import ReplicaUnavailable
from postjournal.cluster.view import ShardView
from postjournal.ledger import Ledger
from services import asyncapi
from services.producer.app import Gateway, make_app
from services.producer.metrics import Metrics
from services.producer.openapi import document
from services.producer.ports import Appended, Expectation, Headers, Outcome, Record
from tests.support.openapi import client_of

SHARDS = 3
OPEN = {"type": "open", "account": "alice", "id": "a1"}
DEPOSIT = {"type": "deposit", "account": "alice", "amount": 5}


@dataclass
class FakeLog:
    unavailable_reason: str | None = None
    refusal: Exception | None = None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    appended: list[tuple[bytes, int, dict[str, Any]]] = field(default_factory=list)
    headers: dict[str, bytes] = field(default_factory=dict)
    now_s: float = 0.0
    append_s: float = 0.0

    def append(self, records: Sequence[Record], headers: Headers = ()) -> list[Outcome]:
        self.headers = dict(headers)
        self.now_s += self.append_s
        if self.refusal is not None:
            raise self.refusal
        first = len(self.appended)
        self.appended += [(key, shard, json.loads(value)) for key, shard, value in records]
        return [self.outcomes.get(i, Appended(first + i)) for i in range(len(records))]


@dataclass
class FakeResults:
    log: FakeLog
    result: bytes | None = None
    unavailable_reason: str | None = None
    is_offered: bool = True
    refusal: Exception | None = None
    expected: list[tuple[int, str, int]] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    @contextmanager
    def expect(self, shard: int, command_id: str) -> Iterator[Expectation]:
        if self.refusal is not None:
            raise self.refusal
        self.expected.append((shard, command_id, len(self.log.appended)))
        yield self

    def wait(self, timeout_s: float) -> bytes | None:
        self.waited_s.append(timeout_s)
        return self.result


@dataclass
class FakeReplicas:
    """Directory and client in one: each query returns or raises the next of `answers`."""

    answers: list[dict[str, Any] | str | ReplicaUnavailable] = field(default_factory=list)
    unavailable_reason: str | None = None
    views: dict[int, ShardView] = field(default_factory=dict)
    queries: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)

    def error(self, shard: int) -> str | None:
        return self.errors.get(shard)

    def shard(self, shard: int) -> ShardView | None:
        return self.views.get(shard)

    def leader_addresses(self, shard: int) -> list[str]:
        return ["leader:1"]

    def reader_addresses(self, shard: int) -> list[str]:
        return ["standby:1", "leader:1"]

    def wait_for_update(self, timeout_s: float) -> None:
        pass

    def query(
        self, address: str, shard: int, parameters: dict[str, str], timeout_s: float
    ) -> dict[str, Any]:
        self.queries.append((address, shard, parameters))
        answer = self.answers.pop(0) if self.answers else "no replica"
        if isinstance(answer, str):
            raise ReplicaUnavailable(answer)
        if isinstance(answer, ReplicaUnavailable):
            raise answer
        return answer


@dataclass
class GatewayUnderTest:
    log: FakeLog
    results: FakeResults
    replicas: FakeReplicas
    metrics: Metrics
    http: FlaskClient

    def post(self, body: object, path: str = "/api/v1/commands", **headers: str) -> TestResponse:
        dashed = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, json=body, headers=dashed)


def make_gateway() -> GatewayUnderTest:
    log = FakeLog()
    results, replicas = FakeResults(log), FakeReplicas()
    gateway = Gateway(
        commands=log,
        results=results,
        directory=replicas,
        replicas=replicas,
        command_type=Ledger.command_type,
        shards=SHARDS,
        metrics=Metrics(),
        openapi=document(Ledger.command_type),
        asyncapi=asyncapi.document(Ledger(), "ledger", SHARDS),
        now_s=lambda: log.now_s,
    )
    return GatewayUnderTest(log, results, replicas, gateway.metrics, client_of(make_app(gateway)))


def problem(response: TestResponse, status: int, kind: str) -> dict[str, Any]:
    """The body, after checking its status, its kind and its form (RFC 9457)."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = json.loads(response.text)
    assert body["type"] == f"urn:postjournal:problem:{kind}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    return body
