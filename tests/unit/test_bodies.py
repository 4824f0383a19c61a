"""Bodies that break off or are garbled on the way, as gunicorn's own parser hands them over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http.parser import RequestParser  # type: ignore[import-untyped]
from werkzeug.test import TestResponse

from tests.support.coordinator import Setup as CoordinatorSetup
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
    """What arrives before the connection closes."""
    head = b"POST %s HTTP/1.1\r\nHost: here\r\n%s\r\n\r\n" % (path.encode(), header)
    asked = next(RequestParser(Config(), iter([head + body]), ("127.0.0.1", 1)))
    arrived: dict[str, Any] = {"wsgi.input": asked.body, "wsgi.input_terminated": True}
    arrived |= {f"HTTP_{name.replace('-', '_')}": value for name, value in asked.headers}
    if "HTTP_CONTENT_LENGTH" in arrived:
        arrived["CONTENT_LENGTH"] = arrived.pop("HTTP_CONTENT_LENGTH")
    return http.post(path, content_type=media_type, environ_overrides=arrived)


@pytest.mark.parametrize("path", ["/api/v1/commands", BATCH])
@pytest.mark.parametrize("body", GARBLED.values(), ids=GARBLED)
def test_a_chunk_that_is_none_is_the_clients_fault_and_no_alert(
    path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_gateway()
    told = problem(post(world.http, path, CHUNKED, body), 400, "malformed-request")
    assert told["outcome"] == "not_accepted"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert world.log.appended == []


@pytest.mark.parametrize("path", ["snapshots", "handover", "crash"])
@pytest.mark.parametrize("body", GARBLED.values(), ids=GARBLED)
def test_the_coordinator_says_so_too(path: str, body: bytes, tmp_path: Path) -> None:
    world = CoordinatorSetup(tmp_path)
    world.allow_crash = True
    problem(post(world.client(), f"/api/v1/{path}", CHUNKED, body), 400, "malformed-request")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (CHUNKED, b'30\r\n{"type":"open"'),
        (b"Content-Length: 60", b'{"type":"open","account":"a"}\n'),
    ],
    ids=["chunked", "of a told length"],
)
def test_the_lines_before_a_batch_broke_off_are_no_batch(header: bytes, body: bytes) -> None:
    world = make_gateway()
    answer = post(world.http, BATCH, header, body, "application/x-ndjson")
    told = problem(answer, 400, "malformed-request")
    assert "broke off" in told["detail"]
    assert told["outcome"] == "not_accepted"
    assert world.log.appended == []


def test_a_chunked_command_is_a_command() -> None:
    world = make_gateway()
    body = b'1d\r\n{"type":"open","account":"a"}\r\n0\r\n\r\n'
    assert post(world.http, "/api/v1/commands", CHUNKED, body).status_code == 202
