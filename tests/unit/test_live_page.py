"""The live page: its contents, its updates, and the token that its buttons need."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from postjournal.cluster.status import Failover, Load
from postjournal.core.messages import EntryStable
from services.coordinator.load_history import MAX_VALUES, LoadHistory
from services.coordinator.page.difference import Difference, Message
from services.coordinator.page.fragments import fragments_of, svg_points
from services.coordinator.page.snapshot_poller import ACTIVE_S, SnapshotPoller
from services.coordinator.page.stream import MAX_STREAMS, Streams
from services.problems import Problem
from services.replica.load import RecentLoad
from tests.support.coordinator import CoordinatorUnderTest, replica_status

FAILOVER = Failover(
    shard=0,
    epoch=2,
    previous="r1",
    leader="r2",
    cause="tripwire",
    detect_ms=3.0,
    claim_ms=9.0,
    resume_ms=11.0,
    total_ms=23.0,
    time=1_700_000_000_000,
)


@pytest.fixture
def under_test(tmp_path: Path) -> Iterator[CoordinatorUnderTest]:
    under_test = CoordinatorUnderTest(tmp_path)
    under_test.client()
    yield under_test
    under_test.live.close()


def update(under_test: CoordinatorUnderTest, difference: Difference) -> Message:
    return difference.update(under_test.live.model())


# --- the page -------------------------------------------------------------------------------


def test_the_page_shows_shards_replicas_failovers_and_snapshots(
    under_test: CoordinatorUnderTest,
) -> None:
    under_test.replicas(r1="leader", r2="standby")
    under_test.status.append(FAILOVER)
    under_test.snapshot(10)
    http = under_test.client()
    under_test.live.poller.rows = under_test.live.coordinator.snapshots.rows()
    text = http.get("/").text
    for shown in ("Shard 0", "r1", "●", "○", "standby", "23 ms", "tripwire", "at-10"):
        assert shown in text


def test_a_card_shows_how_the_shards_previous_engine_ended_unless_there_is_an_error(
    under_test: CoordinatorUnderTest,
) -> None:
    last_end = "killed by SIGSEGV, at most 60 MiB"
    shown = f"Its previous engine ended: <code>{last_end}</code>"
    http = under_test.client()
    under_test.report(replica_status("r1", "standby"))
    assert "previous engine" not in http.get("/").text
    under_test.report(replica_status("r1", "standby", last_end=last_end))
    assert shown in http.get("/").text
    under_test.report(replica_status("r1", "halted", last_end=last_end, error="out of disk"))
    text = http.get("/").text
    assert "out of disk" in text
    assert shown not in text


def test_texts_of_replicas_are_escaped(under_test: CoordinatorUnderTest) -> None:
    under_test.report(replica_status("r1", "halted", error="<script>alert(1)</script>"))
    text = under_test.client().get("/").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_a_state_is_shown_as_a_sign_and_a_word(under_test: CoordinatorUnderTest) -> None:
    under_test.replicas(a="leader", b="standby", c="halted")
    text = under_test.client().get("/").text
    for sign, word in (("●", "leader"), ("○", "standby"), ("✘", "halted")):
        assert re.search(rf"{sign}</span> {word}", text)


def test_crash_buttons_are_shown_only_where_crashes_are_allowed(
    under_test: CoordinatorUnderTest,
) -> None:
    under_test.replicas(a="leader")
    assert "Crash a" not in under_test.client().get("/").text
    under_test.allow_crash = True
    assert "Crash a" in under_test.client().get("/").text


def test_the_page_is_served_before_any_replica_has_reported(
    under_test: CoordinatorUnderTest,
) -> None:
    response = under_test.client().get("/")
    assert response.status_code == 200
    assert "no leader" in response.text


def test_a_killed_leader_is_shown_as_deposed_until_it_is_silent(
    under_test: CoordinatorUnderTest,
) -> None:
    under_test.replicas(a="leader", b="standby")
    under_test.report(replica_status("b", "leader", epoch=2, leader="b"))
    states = {replica.replica: replica.state for replica in under_test.live.model().replicas}
    assert states == {"a": "deposed", "b": "leader"}


# --- what changes ---------------------------------------------------------------------------


def test_a_page_gets_everything_once_and_then_only_changes(
    under_test: CoordinatorUnderTest,
) -> None:
    under_test.replicas(a="leader", b="standby")
    difference = Difference()
    first = update(under_test, difference)
    assert {fragment.id for fragment in first.fragments} >= {
        "shard-0",
        "replica-0-a",
        "failover-list",
    }
    assert update(under_test, difference) == Message()
    under_test.report(replica_status("b", seq=5))
    changed = [fragment.id for fragment in update(under_test, difference).fragments]
    assert "replica-0-b-figures" in changed
    assert "replica-0-b" not in changed  # so that its buttons keep the focus
    assert "failover-list" not in changed


def test_a_card_that_is_replaced_is_followed_by_its_figures(
    under_test: CoordinatorUnderTest,
) -> None:
    under_test.replicas(a="leader", b="standby")
    difference = Difference()
    update(under_test, difference)
    under_test.report(replica_status("b", "claiming"))
    changed = [fragment.id for fragment in update(under_test, difference).fragments]
    assert changed.index("replica-0-b") < changed.index("replica-0-b-figures")


def test_a_failover_is_an_event_unless_it_precedes_the_page(
    under_test: CoordinatorUnderTest,
) -> None:
    under_test.replicas(r1="leader", r2="standby")
    difference = Difference()
    assert update(under_test, difference).events == ()
    under_test.status.append(FAILOVER)
    under_test.report(replica_status("r2", "leader", epoch=2, leader="r2"))
    events = update(under_test, difference).events
    assert events == ("r1 is deposed in shard 0", "r2 is leader in shard 0", FAILOVER.summary)
    assert update(under_test, Difference()).events == ()


def test_an_enclosing_fragment_comes_before_those_in_it(under_test: CoordinatorUnderTest) -> None:
    under_test.replicas(a="leader", b="standby")
    seen = {"state", "shards", "replicas", "failovers", "snapshots"}
    for fragment in fragments_of(under_test.live.model()):
        assert fragment.into in seen
        assert f'id="{fragment.id}"' in fragment.html
        seen.add(fragment.id)


def messages(stream: Iterator[bytes], count: int) -> list[Any]:
    found = []
    for chunk in stream:
        if chunk.startswith(b"data: "):
            found.append(msgspec.json.decode(chunk.removeprefix(b"data: ").strip()))
            if len(found) == count:
                return found
    return found


def test_the_stream_sends_updates_as_they_come(under_test: CoordinatorUnderTest) -> None:
    under_test.replicas(a="leader", b="standby")
    stream = under_test.live.streams.open(under_test.live.model)
    (first,) = messages(stream, 1)
    assert any(part[0] == "replica-0-a" for part in first["parts"])
    under_test.status.append(FAILOVER)
    (second,) = messages(stream, 1)
    assert FAILOVER.summary in second["say"]


def test_the_number_of_open_pages_is_limited(under_test: CoordinatorUnderTest) -> None:
    streams = [under_test.live.streams.open(under_test.live.model) for _ in range(MAX_STREAMS)]
    with pytest.raises(Problem, match="pages are open"):
        under_test.live.streams.open(under_test.live.model)
    next(streams[0])
    for _ in range(2):
        streams[0].close()
    under_test.live.streams.open(under_test.live.model)
    with pytest.raises(Problem, match="pages are open"):
        under_test.live.streams.open(under_test.live.model)


def test_a_stream_that_is_closed_before_its_first_event_is_released(
    under_test: CoordinatorUnderTest,
) -> None:
    for _ in range(MAX_STREAMS + 1):
        under_test.live.streams.open(under_test.live.model).close()


def test_a_request_for_the_headers_opens_no_stream(under_test: CoordinatorUnderTest) -> None:
    http = under_test.client()
    for _ in range(MAX_STREAMS + 1):
        answer = http.head("/api/v1/events")
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")


def test_the_store_is_listed_only_while_a_page_is_open(under_test: CoordinatorUnderTest) -> None:
    seconds = [0.0]
    poller = SnapshotPoller(under_test.live.coordinator.snapshots, lambda: seconds[0])
    stream = Streams(under_test.cluster_state, poller).open(under_test.live.model)
    assert not poller.is_active
    poller.activate()  # as `GET /` does, because a browser may run no scripts
    assert poller.is_active
    seconds[0] += ACTIVE_S
    assert not poller.is_active
    next(stream), next(stream)
    assert poller.is_active
    seconds[0] += ACTIVE_S
    under_test.replicas(a="leader")
    next(stream)
    assert poller.is_active, "the stream is still open"
    poller.close()


def test_a_server_that_stops_ends_all_streams(under_test: CoordinatorUnderTest) -> None:
    stream = under_test.live.streams.open(under_test.live.model)
    next(stream)
    under_test.live.streams.close()
    assert list(itertools.islice(stream, 5)) == []


# --- buttons --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["snapshots", "handover", "crash"])
def test_buttons_need_the_token(under_test: CoordinatorUnderTest, path: str) -> None:
    http: FlaskClient = under_test.client(token="secret")
    body = {"replica": "a"} if path == "crash" else {}
    assert http.post(f"/api/v1/{path}", json=body).status_code == 401
    assert http.get("/api/v1/query?account=a&at=seq:1").status_code == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_from_a_page_of_another_site_is_refused(
    under_test: CoordinatorUnderTest, site: str
) -> None:
    under_test.replicas(a="leader", b="standby")
    answer = under_test.client().post("/api/v1/handover", headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert under_test.control.records == []


def test_a_crash_is_refused_where_it_is_not_allowed(under_test: CoordinatorUnderTest) -> None:
    under_test.replicas(a="leader")
    answer = under_test.client().post("/api/v1/crash", json={"replica": "a"})
    assert answer.status_code == 403


def test_an_unknown_replica_cannot_be_crashed(under_test: CoordinatorUnderTest) -> None:
    under_test.allow_crash = True
    assert under_test.client().post("/api/v1/crash", json={"replica": "x"}).status_code == 404
    assert under_test.client().post("/api/v1/crash", json={}).status_code == 400
    garbled = b'{"replica":"\xff"}'
    answer = under_test.client().post(
        "/api/v1/crash", data=garbled, content_type="application/json"
    )
    assert answer.status_code == 400


def test_a_crash_request_that_is_not_utf_8_is_refused(under_test: CoordinatorUnderTest) -> None:
    under_test.allow_crash = True
    body = b'{"replica":"\xff"}'
    http = under_test.client()
    answer = http.post("/api/v1/crash", data=body, content_type="application/json")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?shard=0", 400),
        ("?shard=x&account=a", 400),
        ("?shard=7&account=a", 404),
        (f"?shard={'1' * 5_000}&account=a", 404),
        ("?account=a&at=yesterday", 400),
        (f"?account=a&at=seq:{'1' * 5_000}", 400),
        (f"?account=a&at=time:{'1' * 5_000}", 400),
        ("?account=a", 409),
    ],
)
def test_an_invalid_query_is_refused(
    under_test: CoordinatorUnderTest, query: str, status: int
) -> None:
    assert under_test.client().get(f"/api/v1/query{query}").status_code == status


# --- curves ---------------------------------------------------------------------------------


def test_a_leaders_load_is_computed_once_a_second() -> None:
    load = RecentLoad(0)
    for wait_ms in range(1, 101):
        load.add(EntryStable(5, 0, 0, append_ms=2, oldest_ms=1_000 - wait_ms), wall_ms=1_000)
    assert load.latest(500, leads=True) is None
    assert load.latest(1_000, leads=True) == Load(500, 50, 99, 2)
    assert load.latest(1_500, leads=True) == Load(500, 50, 99, 2)
    assert load.latest(2_000, leads=True) == Load(0, None, None, None)
    assert load.latest(2_000, leads=False) is None


def test_the_history_has_one_value_per_second() -> None:
    history = LoadHistory()
    for n in range(MAX_VALUES + 30):
        for offset_ms in (0, 300):
            load = Load(n, n, None, None)
            history.add(replica_status("a", "leader", load=load, time=1_000 * n + offset_ms))
        history.add(replica_status("b", time=1_000 * n))
    curves = history.curves(0)
    assert (len(curves.rates), curves.rates[-1], curves.p99_ms[-1]) == (
        MAX_VALUES,
        MAX_VALUES + 29,
        None,
    )
    assert history.curves(7).rates == []


def test_a_curve_ends_at_the_right_edge_and_skips_unknown_values() -> None:
    assert svg_points([0, None, 10], top=10, width=59, height=12) == "57.0,11.0 59.0,1.0"
    assert svg_points([], top=0, width=59, height=12) == ""


def test_a_repeated_status_changes_only_the_figures(under_test: CoordinatorUnderTest) -> None:
    """They show when the replica last wrote a status."""
    difference = Difference()
    under_test.replicas(a="leader")
    update(under_test, difference)
    under_test.status.seen = time.time_ns() // 1_000_000 + 1_000
    under_test.replicas(a="leader")
    assert [fragment.id for fragment in update(under_test, difference).fragments] == [
        "replica-0-a-figures"
    ]
