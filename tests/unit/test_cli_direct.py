"""Requests to our services go directly to them, although the environment names a proxy."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from postjournal.cli.coordinator import CoordinatorClient
from postjournal.cli.local.layout import PROJECT_ROOT, Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.readiness import ReadinessWaiter, service_checks
from postjournal.cli.local.status import StateResponse, fetch_state
from tests.support.plan import PLAN

DIRECT_HTTP = PROJECT_ROOT / "shared" / "postjournal" / "cluster" / "http.py"

RESPONSES = {
    "/state": StateResponse("replica-1", 1, []),
    "/readyz": {},
    "/api/v1/snapshots": {"snapshots": []},
}


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = msgspec.json.encode(RESPONSES[self.path])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """A plan whose services answer; the proxy is unreachable."""
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    yield msgspec.structs.replace(PLAN, ports=dict.fromkeys(PLAN.ports, server.server_port))
    server.shutdown()
    server.server_close()


def test_replicas_are_called_directly(plan: Plan) -> None:
    assert fetch_state(plan.url("replica-1"), timeout_s=60) is not None


def test_readiness_checks_call_services_directly(plan: Plan, tmp_path: Path) -> None:
    checks = service_checks(plan, dict)
    called = {name: checks[name] for name in ("replica-1", "replica-2", "producer", "coordinator")}
    ReadinessWaiter(Layout(tmp_path), dict).wait(called, timeout_s=20)


def test_the_coordinator_is_called_directly(plan: Plan) -> None:
    assert CoordinatorClient(plan.url("coordinator"), {}).snapshots() == []


def test_only_direct_session_creates_http_clients() -> None:
    """So that every request is direct, in services and benches too."""
    calls = {
        f"{path.relative_to(PROJECT_ROOT)}:{node.lineno}"
        for folder in ("shared", "services", "loadtest")
        for path in (PROJECT_ROOT / folder).rglob("*.py")
        if path != DIRECT_HTTP
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("requests.")
    }
    assert not calls
