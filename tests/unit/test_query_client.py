"""The client of the replicas' `GET /query/<shard>`, over a real HTTP server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest

from postjournal.cluster.query_client import (
    QueryClient,
    QueryFailed,
    ReplicaBehind,
    ReplicaUnavailable,
)

ANSWER = b'{"result":{"balance":5},"seq":9,"epoch":2,"shard":1,"replica":"r1"}'


class Replica(ThreadingHTTPServer):
    """Sends `body` with `status` to every request, once `released` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body = 200, ANSWER
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self.released.set()
        self.address = f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Replica

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.requests.append((url.path, dict(parse_qsl(url.query))))
        self.server.released.wait(60)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replica]:
    """A replica on the loopback; the proxy that the environment names is unreachable."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = Replica()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def client() -> Iterator[QueryClient]:
    with QueryClient(connect_timeout_s=60, read_timeout_s=60) as client:
        yield client


def test_an_answer_is_the_body_of_the_response(replica: Replica, client: QueryClient) -> None:
    parameters = {"account": "a/b &c", "consistency": "any", "min_seq": "9"}
    assert client.query(replica.address, 1, parameters) == {
        "result": {"balance": 5},
        "seq": 9,
        "epoch": 2,
        "shard": 1,
        "replica": "r1",
    }
    assert replica.requests == [("/query/1", parameters)]


def test_a_query_that_finds_nothing_is_an_answer(replica: Replica, client: QueryClient) -> None:
    replica.status, replica.body = 404, b'{"result":null,"seq":9}'
    assert client.query(replica.address, 0, {}) == {"result": None, "seq": 9}


def test_a_replica_that_is_behind_reports_its_sequence(
    replica: Replica, client: QueryClient
) -> None:
    replica.status, replica.body = 503, b'{"error":"behind","seq":3,"replica":"r1"}'
    with pytest.raises(ReplicaBehind, match=f"{replica.address} has reached sequence 3") as caught:
        client.query(replica.address, 0, {})
    assert caught.value.seq == 3


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (409, b'{"error":"not_leader","seq":3}', ReplicaUnavailable, "not_leader"),
        (503, b'{"error":"behind"}', ReplicaUnavailable, "behind"),
        (404, b'{"error":"no such shard"}', ReplicaUnavailable, "no such shard"),
        (500, b'{"error":"ValueError: x","seq":3}', QueryFailed, "ValueError: x"),
        (500, b"[]", QueryFailed, "status 500"),
        (200, b"[1]", ReplicaUnavailable, "status 200"),
        (502, b"<html>", ReplicaUnavailable, "malformed"),
        (200, b'{"result":"\xff"}', ReplicaUnavailable, "utf-8"),
    ],
)
def test_a_response_without_a_result_is_an_error_that_names_the_replica(
    replica: Replica,
    client: QueryClient,
    *,
    status: int,
    body: bytes,
    kind: type[ReplicaUnavailable],
    message: str,
) -> None:
    replica.status, replica.body = status, body
    with pytest.raises(ReplicaUnavailable, match=f"{replica.address}: .*{message}") as caught:
        client.query(replica.address, 0, {})
    assert type(caught.value) is kind


def test_an_unreachable_replica_is_unavailable(client: QueryClient) -> None:
    with pytest.raises(ReplicaUnavailable, match=r"127\.0\.0\.1:1: "):
        client.query("127.0.0.1:1", 0, {})


def test_the_timeout_of_a_call_limits_the_clients_own(
    replica: Replica, client: QueryClient
) -> None:
    replica.released.clear()
    with pytest.raises(ReplicaUnavailable, match="timed out"):
        client.query(replica.address, 0, {}, timeout_s=0.05)
