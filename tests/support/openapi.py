"""Holds what a service answers against what its OpenAPI document says."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

ANYWHERE = ("404", "405", "500")
"""Answers that no operation has to name: no such path, no such method, a bug."""

PAGES = ("/", "/docs", "/docs/topics", "/api/v1/events")
UNTOLD = ("/api/v1/openapi.json", "/api/v1/asyncapi.json", "/static/")
"""Paths that describe, and are not described."""

Json = dict[str, Any]


class DescribedClient(FlaskClient):
    """Every answer must be one that the document tells of."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """See `FlaskClient`."""
        response = super().open(*args, **kwargs)
        document = described(self.application)
        check(document, response.request.method, response.request.path, response)
        return response


def client_of(app: Flask) -> FlaskClient:
    """A client whose answers are checked."""
    app.test_client_class = DescribedClient
    return app.test_client()


def described(app: Flask) -> Json:
    """The application's document."""
    response: Any = app.view_functions["openapi"]()
    document: Json = json.loads(response.get_data())
    return document


def check(document: Json, method: str, path: str, response: Any) -> None:
    """`response`: of werkzeug or of requests."""
    if path in PAGES or path.startswith(UNTOLD):
        return
    operation = _operation(document, method, path)
    status = str(response.status_code)
    told = (operation or {}).get("responses", {}).get(status)
    if told is None:
        assert status in ANYWHERE, f"{method} {path} answered {status}, which it does not tell of"
        told = {"content": {"application/problem+json": {"schema": PROBLEM}}}
    content = told["content"]
    media_type = response.headers["Content-Type"].partition(";")[0]
    assert media_type in content, f"{method} {path}: {media_type} is none of {list(content)}"
    if response.status_code in (429, 503):
        assert "Retry-After" in response.headers
    body = response.json if isinstance(response, TestResponse) else response.json()
    validate(document, content[media_type]["schema"], body)


PROBLEM = {"$ref": "#/components/schemas/Problem"}


def validate(document: Json, schema: Json, value: object) -> None:
    """`schema` may refer to the document's components."""
    whole = {**schema, "components": document["components"]}
    errors = [
        f"{error.message} at {'/'.join(map(str, error.instance_path))}"
        for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(value)
    ]
    assert not errors, errors


def _operation(document: Json, method: str, path: str) -> Json | None:
    for template, operations in document["paths"].items():
        pattern = re.sub(r"\\\{[a-z_]+\\\}", ".+", re.escape(template))
        if re.fullmatch(pattern, path, re.DOTALL) and method.lower() in operations:
            found: Json = operations[method.lower()]
            return found
    return None


def routes(app: Flask) -> set[tuple[str, str]]:
    """(method, path) as the document writes paths."""
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in PAGES and not rule.rule.startswith(UNTOLD)
    }


def operations(document: Json) -> set[tuple[str, str]]:
    """(method, path) that the document tells of."""
    return {
        (method.upper(), path) for path, of_path in document["paths"].items() for method in of_path
    }
