"""The live page: what it shows, what changes, and who may press its buttons."""

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
from services.coordinator.history import KEPT, History
from services.coordinator.page.fragments import parts_of
from services.coordinator.page.model import points
from services.coordinator.page.stream import (
    MAX_STREAMS,
    WATCHED_S,
    Difference,
    Message,
    SnapshotWatch,
    Streams,
)
from services.problems import Problem
from services.replica.load import RecentLoad
from tests.support.coordinator import Setup, replica_status

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
def world(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    made.client()
    yield made
    made.live.close()


def show(world: Setup, difference: Difference) -> Message:
    return difference.take(world.live.model())


# --- the page -------------------------------------------------------------------------------


def test_the_page_shows_shards_replicas_failovers_and_snapshots(world: Setup) -> None:
    world.replicas(r1="leader", r2="standby")
    world.status.append(FAILOVER)
    world.snapshot(10)
    http = world.client()
    world.live.watch.rows = world.live.coordinator.snapshots.rows()
    text = http.get("/").text
    for part in ("Shard 0", "r1", "●", "○", "standby", "23 ms", "tripwire", "at-10"):
        assert part in text


def test_what_replicas_say_is_escaped(world: Setup) -> None:
    world.report(replica_status("r1", "halted", error="<script>alert(1)</script>"))
    text = world.client().get("/").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_a_role_is_told_by_a_sign_and_a_word(world: Setup) -> None:
    world.replicas(a="leader", b="standby", c="halted")
    text = world.client().get("/").text
    for sign, word in (("●", "leader"), ("○", "standby"), ("✘", "halted")):
        assert re.search(rf"{sign}</span> {word}", text)


def test_replicas_may_be_crashed_only_where_that_is_allowed(world: Setup) -> None:
    world.replicas(a="leader")
    assert "Crash a" not in world.client().get("/").text
    world.allow_crash = True
    assert "Crash a" in world.client().get("/").text


def test_before_anything_is_known_the_page_is_there(world: Setup) -> None:
    response = world.client().get("/")
    assert response.status_code == 200
    assert "no leader" in response.text


def test_a_killed_leader_is_not_shown_as_one_until_it_is_silent(world: Setup) -> None:
    world.replicas(a="leader", b="standby")
    world.report(replica_status("b", "leader", epoch=2, leader="b"))
    states = {each.replica: each.state for each in world.live.model().replicas}
    assert states == {"a": "deposed", "b": "leader"}


# --- what changes ---------------------------------------------------------------------------


def test_a_page_gets_everything_once_and_then_what_has_changed(world: Setup) -> None:
    world.replicas(a="leader", b="standby")
    difference = Difference()
    first = show(world, difference)
    assert {part.id for part in first.parts} >= {"shard-0", "replica-0-a", "failover-list"}
    assert show(world, difference) == Message()
    world.report(replica_status("b", seq=5))
    changed = [part.id for part in show(world, difference).parts]
    assert "replica-0-b-figures" in changed
    assert "replica-0-b" not in changed  # its buttons stay where they are
    assert "failover-list" not in changed


def test_a_card_that_is_replaced_brings_its_figures(world: Setup) -> None:
    world.replicas(a="leader", b="standby")
    difference = Difference()
    show(world, difference)
    world.report(replica_status("b", "claiming"))
    changed = [part.id for part in show(world, difference).parts]
    assert changed.index("replica-0-b") < changed.index("replica-0-b-figures")


def test_a_failover_is_news_and_one_from_before_is_not(world: Setup) -> None:
    world.replicas(r1="leader", r2="standby")
    difference = Difference()
    assert show(world, difference).say == ()
    world.status.append(FAILOVER)
    world.report(replica_status("r2", "leader", epoch=2, leader="r2"))
    said = show(world, difference).say
    assert said == ("r1 is deposed in shard 0", "r2 is leader in shard 0", FAILOVER.told)
    assert show(world, Difference()).say == ()


def test_what_encloses_a_part_comes_before_it(world: Setup) -> None:
    world.replicas(a="leader", b="standby")
    seen = {"state", "shards", "replicas", "failovers", "snapshots"}
    for part in parts_of(world.live.model()):
        assert part.into in seen
        assert f'id="{part.id}"' in part.html
        seen.add(part.id)


def events(stream: Iterator[bytes], count: int) -> list[Any]:
    found = []
    for chunk in stream:
        if chunk.startswith(b"data: "):
            found.append(msgspec.json.decode(chunk.removeprefix(b"data: ").strip()))
            if len(found) == count:
                return found
    return found


def test_the_stream_tells_news_as_they_come(world: Setup) -> None:
    world.replicas(a="leader", b="standby")
    stream = world.live.streams.begin(world.live.model)
    (first,) = events(stream, 1)
    assert any(part[0] == "replica-0-a" for part in first["parts"])
    world.status.append(FAILOVER)
    (second,) = events(stream, 1)
    assert FAILOVER.told in second["say"]


def test_so_many_pages_and_no_more(world: Setup) -> None:
    streams = [world.live.streams.begin(world.live.model) for _ in range(MAX_STREAMS)]
    with pytest.raises(Problem, match="pages are open"):
        world.live.streams.begin(world.live.model)
    next(streams[0])
    for _ in range(2):
        streams[0].close()
    world.live.streams.begin(world.live.model)
    with pytest.raises(Problem, match="pages are open"):
        world.live.streams.begin(world.live.model)


def test_a_page_that_goes_before_it_was_sent_anything_gives_its_place_back(world: Setup) -> None:
    for _ in range(MAX_STREAMS + 1):
        world.live.streams.begin(world.live.model).close()


def test_whoever_only_asks_for_the_streams_headers_takes_no_place(world: Setup) -> None:
    http = world.client()
    for _ in range(MAX_STREAMS + 1):
        answer = http.head("/api/v1/events")
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")


def test_the_store_is_listed_no_longer_than_somebody_watches(world: Setup) -> None:
    seconds = [0.0]
    watch = SnapshotWatch(world.live.coordinator.snapshots, lambda: seconds[0])
    stream = Streams(world.cluster_state, watch).begin(world.live.model)
    assert not watch.is_wanted
    watch.wake()  # as the page itself does, whose reader may run no scripts
    assert watch.is_wanted
    seconds[0] += WATCHED_S
    assert not watch.is_wanted
    next(stream), next(stream)
    assert watch.is_wanted
    seconds[0] += WATCHED_S
    world.replicas(a="leader")
    next(stream)
    assert watch.is_wanted, "it is still open"
    watch.close()


def test_a_server_that_stops_lets_the_pages_go(world: Setup) -> None:
    stream = world.live.streams.begin(world.live.model)
    next(stream)
    world.live.streams.close()
    assert list(itertools.islice(stream, 5)) == []


# --- buttons --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["snapshots", "handover", "crash"])
def test_buttons_need_the_token(world: Setup, path: str) -> None:
    http: FlaskClient = world.client(token="secret")
    body = {"replica": "a"} if path == "crash" else {}
    assert http.post(f"/api/v1/{path}", json=body).status_code == 401
    assert http.get("/api/v1/query?account=a&at=seq:1").status_code == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_changes_nothing(world: Setup, site: str) -> None:
    world.replicas(a="leader", b="standby")
    answer = world.client().post("/api/v1/handover", headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert world.control.records == []


def test_a_crash_is_refused_where_it_is_not_allowed(world: Setup) -> None:
    world.replicas(a="leader")
    answer = world.client().post("/api/v1/crash", json={"replica": "a"})
    assert answer.status_code == 403


def test_an_unknown_replica_cannot_be_crashed(world: Setup) -> None:
    world.allow_crash = True
    assert world.client().post("/api/v1/crash", json={"replica": "x"}).status_code == 404
    assert world.client().post("/api/v1/crash", json={}).status_code == 400
    garbled = b'{"replica":"\xff"}'
    answer = world.client().post("/api/v1/crash", data=garbled, content_type="application/json")
    assert answer.status_code == 400


def test_a_crash_request_that_is_no_text_is_refused(world: Setup) -> None:
    world.allow_crash = True
    body = b'{"replica":"\xff"}'
    http = world.client()
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
def test_a_query_that_makes_no_sense_is_refused(world: Setup, query: str, status: int) -> None:
    assert world.client().get(f"/api/v1/query{query}").status_code == status


# --- curves ---------------------------------------------------------------------------------


def test_a_leaders_load_is_summed_up_once_a_second() -> None:
    load = RecentLoad(0)
    for wait_ms in range(1, 101):
        load.note(EntryStable(5, 0, 0, append_ms=2, oldest_ms=1_000 - wait_ms), wall_ms=1_000)
    assert load.look(500, leads=True) is None
    assert load.look(1_000, leads=True) == Load(500, 50, 99, 2)
    assert load.look(1_500, leads=True) == Load(500, 50, 99, 2)
    assert load.look(2_000, leads=True) == Load(0, None, None, None)
    assert load.look(2_000, leads=False) is None


def test_the_history_keeps_one_value_a_second_of_the_leaders() -> None:
    history = History()
    for n in range(KEPT + 30):
        for part_ms in (0, 300):
            load = Load(n, n, None, None)
            history.take(replica_status("a", "leader", load=load, time=1_000 * n + part_ms))
        history.take(replica_status("b", time=1_000 * n))
    curves = history.curves(0)
    assert (len(curves.rates), curves.rates[-1], curves.p99_ms[-1]) == (KEPT, KEPT + 29, None)
    assert history.curves(7).rates == []


def test_a_curve_ends_at_the_right_edge_and_skips_what_is_unknown() -> None:
    assert points([0, None, 10], top=10, width=59, height=12) == "57.0,11.0 59.0,1.0"
    assert points([], top=0, width=59, height=12) == ""


def test_the_time_of_the_last_news_is_not_what_makes_news(world: Setup) -> None:
    """A replica that says the same again changes only when it was last heard."""
    difference = Difference()
    world.replicas(a="leader")
    show(world, difference)
    world.status.seen = time.time_ns() // 1_000_000 + 1_000
    world.replicas(a="leader")
    assert [part.id for part in show(world, difference).parts] == ["replica-0-a-figures"]
