"""Checks the responses of a service against its OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

ANYWHERE = ("404", "405", "500")
"""Statuses that no operation has to describe: no such path, no such method, a bug."""

PAGES = ("/", "/docs", "/docs/topics", "/api/v1/events")
UNDESCRIBED = ("/api/v1/openapi.json", "/api/v1/asyncapi.json", "/static/")
"""Paths of documents and static files, which no document describes."""

Json = dict[str, Any]


class CheckedClient(FlaskClient):
    """A client that checks every response against the document."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        document = document_of(self.application)
        check(document, response.request.method, response.request.path, response)
        return response


def client_of(app: Flask) -> FlaskClient:
    """A client whose responses are checked."""
    app.test_client_class = CheckedClient
    return app.test_client()


def document_of(app: Flask) -> Json:
    """The OpenAPI document of an application."""
    response: Any = app.view_functions["openapi"]()
    document: Json = json.loads(response.get_data())
    return document


def check(document: Json, method: str, path: str, response: Any) -> None:
    """Check a response of werkzeug or of requests; paths without a document pass."""
    if path in PAGES or path.startswith(UNDESCRIBED):
        return
    operation = _operation(document, method, path)
    status = str(response.status_code)
    expected = (operation or {}).get("responses", {}).get(status)
    if expected is None:
        assert status in ANYWHERE, f"{method} {path} answered {status}, which is not described"
        expected = {"content": {"application/problem+json": {"schema": PROBLEM}}}
    content = expected["content"]
    media_type = response.headers["Content-Type"].partition(";")[0]
    assert media_type in content, f"{method} {path}: {media_type} is not one of {list(content)}"
    if response.status_code in (429, 503):
        assert "Retry-After" in response.headers
    body = response.json if isinstance(response, TestResponse) else response.json()
    validate(document, content[media_type]["schema"], body)


PROBLEM = {"$ref": "#/components/schemas/Problem"}


def validate(document: Json, schema: Json, value: object) -> None:
    """Validate `value`; `schema` may refer to the document's components."""
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
    """(method, path) of the application's routes, with paths in the document's form."""
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in PAGES and not rule.rule.startswith(UNDESCRIBED)
    }


def operations(document: Json) -> set[tuple[str, str]]:
    """(method, path) that the document describes."""
    return {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
