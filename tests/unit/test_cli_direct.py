"""Services of ours are asked directly, although the shell names a proxy."""

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
from postjournal.cli.local.readiness import Waiting, service_checks
from postjournal.cli.local.status import StateAnswer, ask_replica
from tests.support.plan import PLAN

ANSWERS = {
    "/state": StateAnswer("replica-1", 1, []),
    "/readyz": {},
    "/api/v1/snapshots": {"snapshots": []},
}


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = msgspec.json.encode(ANSWERS[self.path])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """Its services answer; the proxy, whatever it is asked for, does not."""
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    yield msgspec.structs.replace(PLAN, ports=dict.fromkeys(PLAN.ports, server.server_port))
    server.shutdown()
    server.server_close()


def test_a_replica_is_asked_directly(plan: Plan) -> None:
    assert ask_replica(plan.url("replica-1"), timeout_s=60) is not None


def test_the_readiness_of_services_is_asked_directly(plan: Plan, tmp_path: Path) -> None:
    checks = service_checks(plan, dict)
    asked = {name: checks[name] for name in ("replica-1", "replica-2", "producer", "coordinator")}
    Waiting(Layout(tmp_path), dict).wait(asked, timeout_s=20)


def test_the_coordinator_is_asked_directly(plan: Plan) -> None:
    assert CoordinatorClient(plan.url("coordinator"), {}).snapshots() == []


def test_the_command_line_speaks_http_only_directly() -> None:
    """So that what only a bench asks is meant as well."""
    room = PROJECT_ROOT / "shared" / "postjournal" / "cli"
    by_proxy = {
        f"{path.relative_to(room)}:{node.lineno}"
        for path in room.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("requests.")
        if path.name != "http.py"
    }
    assert not by_proxy
