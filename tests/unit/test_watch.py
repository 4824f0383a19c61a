"""The view of `watch` of a cluster over time."""

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from postjournal.cli.coordinator import Cluster, Replica, Shard
from postjournal.cli.display.cluster import ClusterHistory, render, sparkline
from postjournal.cluster.status import Failover

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


def replica(name: str, state: str, **changes: object) -> Replica:
    row = Replica(
        replica=name,
        shard=0,
        state=state,
        epoch=1,
        seq=10,
        lag=0,
        lag_s=0.0,
        silent=False,
        http="h:1",
        error=None,
    )
    return msgspec.structs.replace(row, **changes)


def cluster(seq: int, *replicas: Replica, failovers: tuple[Failover, ...] = ()) -> Cluster:
    leader = next((row.replica for row in replicas if row.state == "leader"), None)
    shard = Shard(leader=leader, epoch=1, since=0, state="leader", seq=seq)
    return Cluster(shards={"0": shard}, replicas=list(replicas), failovers=list(failovers))


def rendered(found: Cluster, history: ClusterHistory) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(render(found, history))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_rate_is_commands_over_the_time_since_the_last_change() -> None:
    history = ClusterHistory()
    for at_s, seq in ((0.0, 100), (0.25, 100), (1.0, 600), (1.25, 600), (2.0, 1_100)):
        history.update(cluster(seq), at_s)
    assert list(history.rates["0"]) == [500.0, 500.0]


def test_a_shard_without_commands_has_the_rate_zero() -> None:
    history = ClusterHistory()
    for at_s in (0.0, 1.0, 2.0, 4.0):
        history.update(cluster(100), at_s)
    assert list(history.rates["0"]) == [0.0, 0.0]


def test_each_change_is_one_line() -> None:
    history = ClusterHistory()
    assert history.update(cluster(1, replica("r1", "leader"), replica("r2", "standby")), 0.0) == []
    changes = history.update(
        cluster(1, replica("r1", "leader", silent=True), replica("r2", "leader")), 1.0
    )
    assert changes == [
        "shard 0: r1 is silent, was leader",
        "shard 0: r2 is leader, was standby",
    ]
    (takeover, absent) = sorted(
        history.update(cluster(1, replica("r2", "leader"), failovers=(FAILOVER,)), 2.0),
        reverse=True,
    )
    assert takeover == (
        "shard 0: r2 took over from r1 in 23 ms (tripwire; detect 3, claim 9, resume 11)"
    )
    assert absent == "shard 0: r1 is absent, was silent"
    assert history.update(cluster(1, replica("r2", "leader"), failovers=(FAILOVER,)), 3.0) == []


def test_the_view_shows_states_as_words_and_failovers_by_phase() -> None:
    found = cluster(
        1_234,
        replica("r1", "leader"),
        replica("[r2]", "halted", error="evolve failed"),
        failovers=(FAILOVER,),
    )
    text = rendered(found, ClusterHistory())
    for part in ("● leader", "✘ halted", "[r2]", "evolve failed", "1,234", "tripwire", "23 ms"):
        assert part in text


def test_a_shard_without_a_leader_shows_none() -> None:
    assert "none" in rendered(cluster(1, replica("r1", "standby")), ClusterHistory())


def test_a_sparkline_is_scaled_to_its_highest_value() -> None:
    assert sparkline([0, 5, 10]) == "▁▅█"
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
