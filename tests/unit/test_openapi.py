"""The OpenAPI documents tell of every operation, and of no other.

That the answers are as they say is checked with every answer in the tests of the two services:
see `tests/support/openapi.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask

from tests.support.coordinator import Setup as CoordinatorSetup
from tests.support.gateway import make_gateway
from tests.support.openapi import check, described, operations, routes


@pytest.fixture(params=["gateway", "coordinator"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Flask:
    if request.param == "gateway":
        return make_gateway().http.application
    return CoordinatorSetup(tmp_path).client().application


def test_every_operation_is_told_and_no_other(app: Flask) -> None:
    assert operations(described(app)) == routes(app)


def test_every_reference_leads_somewhere(app: Flask) -> None:
    document = described(app)
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


def test_every_schema_is_one(app: Flask) -> None:
    for name, schema in described(app)["components"]["schemas"].items():
        jsonschema_rs.meta.validate({**schema, "title": name})


def test_every_operation_says_what_it_is_for(app: Flask) -> None:
    for path, of_path in described(app)["paths"].items():
        for method, operation in of_path.items():
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
def test_an_answer_that_the_document_does_not_tell_of_is_noticed(answer: Answer) -> None:
    document = described(make_gateway().http.application)
    with pytest.raises((AssertionError, KeyError)):
        check(document, "GET", "/api/v1/accounts/a", answer)
