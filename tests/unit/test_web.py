"""The pages' content and the security policy of their responses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.support.coordinator import CoordinatorUnderTest
from tests.support.gateway import make_gateway

ELSEWHERE = re.compile(r"""(?:src|href|action)=["'](?:https?:)?//""")


@pytest.fixture(params=["gateway", "coordinator"])
def http(request: pytest.FixtureRequest, tmp_path: Path) -> FlaskClient:
    return (
        make_gateway().http
        if request.param == "gateway"
        else CoordinatorUnderTest(tmp_path).client()
    )


def test_the_interface_page_shows_every_operation_and_type(http: FlaskClient) -> None:
    document = http.get("/api/v1/openapi.json").json
    assert document is not None
    text = http.get("/docs").text
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}</code></h2>" in text
    for name in document["components"]["schemas"]:
        assert f'id="type-{name}"' in text


def test_the_topics_page_shows_every_topic() -> None:
    text = make_gateway().http.get("/docs/topics").text
    for name in ("commands", "feed", "journal", "results", "balances", "deadletter", "status"):
        assert f"<code>ledger.{name}</code></h2>" in text


def test_pages_load_nothing_from_other_hosts_and_allow_nothing_inline(http: FlaskClient) -> None:
    response = http.get("/docs")
    assert not ELSEWHERE.search(response.text)
    assert "<style" not in response.text
    assert "<script>" not in response.text
    assert " style=" not in response.text
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["..", "none.css", "..%2F__init__.py", "style.css.py"])
def test_only_static_files_are_served(http: FlaskClient, name: str) -> None:
    assert http.get(f"/static/{name}").status_code == 404


def test_a_cached_file_is_not_sent_again(http: FlaskClient) -> None:
    first = http.get("/static/style.css")
    assert first.status_code == 200
    again = http.get("/static/style.css", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
