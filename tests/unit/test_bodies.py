"""Truncated and garbled request bodies, as gunicorn's parser passes them to the application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http.parser import RequestParser  # type: ignore[import-untyped]
from werkzeug.test import TestResponse

from tests.support.coordinator import CoordinatorUnderTest
from tests.support.gateway import make_gateway, problem

BATCH = "/api/v1/commands/batch"
GARBLED = {
    "size": b"zz\r\n{}\r\n0\r\n\r\n",
    "terminator": b'5\r\n{"a":XX',
    "extension": b"2;=\r\n{}\r\n0\r\n\r\n",
    "trailer": b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n",
}
CHUNKED = b"Transfer-Encoding: chunked"


def post(
    http: FlaskClient, path: str, header: bytes, body: bytes, media_type: str = "application/json"
) -> TestResponse:
    """Post a request whose body ends, because the connection closes, after `body`."""
    head = b"POST %s HTTP/1.1\r\nHost: here\r\n%s\r\n\r\n" % (path.encode(), header)
    parsed = next(RequestParser(Config(), iter([head + body]), ("127.0.0.1", 1)))
    environ: dict[str, Any] = {"wsgi.input": parsed.body, "wsgi.input_terminated": True}
    environ |= {f"HTTP_{name.replace('-', '_')}": value for name, value in parsed.headers}
    if "HTTP_CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = environ.pop("HTTP_CONTENT_LENGTH")
    return http.post(path, content_type=media_type, environ_overrides=environ)


@pytest.mark.parametrize("path", ["/api/v1/commands", BATCH])
@pytest.mark.parametrize("body", GARBLED.values(), ids=GARBLED)
def test_an_invalid_chunk_is_the_clients_fault_and_not_logged_as_an_error(
    path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make_gateway()
    answer = problem(post(gateway.http, path, CHUNKED, body), 400, "malformed-request")
    assert answer["outcome"] == "not_accepted"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert gateway.log.appended == []


@pytest.mark.parametrize("path", ["snapshots", "handover", "crash"])
@pytest.mark.parametrize("body", GARBLED.values(), ids=GARBLED)
def test_an_invalid_chunk_is_a_400_of_the_coordinator_too(
    path: str, body: bytes, tmp_path: Path
) -> None:
    coordinator = CoordinatorUnderTest(tmp_path)
    coordinator.allow_crash = True
    problem(post(coordinator.client(), f"/api/v1/{path}", CHUNKED, body), 400, "malformed-request")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (CHUNKED, b'30\r\n{"type":"open"'),
        (b"Content-Length: 60", b'{"type":"open","account":"a"}\n'),
    ],
    ids=["chunked", "with a Content-Length"],
)
def test_the_lines_of_a_truncated_body_are_not_a_batch(header: bytes, body: bytes) -> None:
    gateway = make_gateway()
    answer = post(gateway.http, BATCH, header, body, "application/x-ndjson")
    refusal = problem(answer, 400, "malformed-request")
    assert "truncated" in refusal["detail"]
    assert refusal["outcome"] == "not_accepted"
    assert gateway.log.appended == []


def test_a_chunked_command_is_accepted() -> None:
    gateway = make_gateway()
    body = b'1d\r\n{"type":"open","account":"a"}\r\n0\r\n\r\n'
    assert post(gateway.http, "/api/v1/commands", CHUNKED, body).status_code == 202
