"""The OpenAPI documents describe exactly the operations that exist.

The tests of the services check that every response matches its document: see
`tests/support/openapi.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask

from tests.support.coordinator import CoordinatorUnderTest
from tests.support.gateway import make_gateway
from tests.support.openapi import check, document_of, operations, routes


@pytest.fixture(params=["gateway", "coordinator"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Flask:
    if request.param == "gateway":
        return make_gateway().http.application
    return CoordinatorUnderTest(tmp_path).client().application


def test_every_operation_is_described_and_no_other(app: Flask) -> None:
    assert operations(document_of(app)) == routes(app)


def test_every_reference_is_resolvable(app: Flask) -> None:
    document = document_of(app)
    found = list(references(document))
    assert found
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref")
        yield from (ref for value in node.values() for ref in references(value))
    elif isinstance(node, list):
        yield from (ref for value in node for ref in references(value))


def test_every_schema_is_valid(app: Flask) -> None:
    for name, schema in document_of(app)["components"]["schemas"].items():
        jsonschema_rs.meta.validate({**schema, "title": name})


def test_every_operation_has_a_summary_and_responses(app: Flask) -> None:
    for path, methods in document_of(app)["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], f"{method} {path}"
            assert operation["responses"], f"{method} {path}"


class Answer:
    def __init__(self, status: int, body: object, media_type: str = "application/json") -> None:
        self.status_code, self._body = status, body
        self.headers = {"Content-Type": media_type}

    def json(self) -> object:
        return self._body


@pytest.mark.parametrize(
    "answer",
    [
        Answer(418, {}),
        Answer(200, {"account": "a", "balance": "5"}),
        Answer(200, {"account": "a", "balance": 5, "seq": 1, "epoch": 1, "shard": 0}),
        Answer(200, {"account": "a"}, "text/plain"),
        Answer(503, {"title": "no"}, "application/problem+json"),
    ],
)
def test_a_response_that_does_not_match_the_document_is_detected(answer: Answer) -> None:
    document = document_of(make_gateway().http.application)
    with pytest.raises((AssertionError, KeyError)):
        check(document, "GET", "/api/v1/accounts/a", answer)
