"""The simulation is only worth as much as its cluster: that it can do what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.simulation.broker import ShardTopics
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.coverage import Coverage
from tests.simulation.event_loop import MS, EventLoop
from tests.simulation.host import Host, Killed, ScheduledFault
from tests.simulation.invariants import Violation
from tests.simulation.journal_producers import LOST, TWICE, UNACKNOWLEDGED
from tests.simulation.profile import Profile
from tests.simulation.reference import ReferenceFold
from tests.simulation.reference_ledger import ReferenceLedger, is_command
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.shard_log import SimShardLog


class Bench:
    """One process without a replica, its log, and what the log says."""

    def __init__(self) -> None:
        self.cluster = SimulatedCluster(EventLoop(1), Profile(replicas=1))
        self.topics = ShardTopics(0, lambda *_: None, lambda *_: None)
        self.host: Host = self.cluster.hosts[0]
        self.host.alive, self.host.start_count = True, 1
        self.log = SimShardLog(self.host, self.topics, lambda: None)
        self.log.open_journal(0)

    def heard(self, duration_ms: int = 2_500) -> list[m.Message]:
        self.cluster.run_for(duration_ms * MS)
        return list(self.log.poll(0))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_events_run_in_the_order_of_time_then_of_asking() -> None:
    loop, seen = EventLoop(1), list[str]()
    for time_us, name in ((5, "b"), (3, "a"), (5, "c")):
        loop.at(time_us, seen.append, name)
    while loop.next_at() is not None:
        loop.step()
    assert (seen, loop.now_us) == (["a", "b", "c"], 5)


def test_an_unknown_counter_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        Coverage().hit("something else")


@pytest.mark.parametrize(
    ("fate", "landed", "answer"),
    [
        ("", 1, m.AppendAcknowledged),
        (LOST, 0, m.AppendFailed),
        (UNACKNOWLEDGED, 1, m.AppendFailed),
        (TWICE, 2, m.AppendAcknowledged),
    ],
)
def test_an_append_meets_its_fate(bench: Bench, fate: str, landed: int, answer: type) -> None:
    if fate:
        bench.log.appends.fates.append(fate)
    bench.log.append(b"x")
    heard = bench.heard()
    assert bench.topics.journal.records == [b"x"] * landed
    assert [type(each) for each in heard if type(each) is not m.JournalRecords] == [answer]


def test_appends_of_the_dead_land_later(bench: Bench) -> None:
    bench.log.appends.hold()
    bench.log.append(b"x")
    bench.host.end("killed")
    bench.heard()
    bench.log.appends.release()
    heard = bench.heard()
    assert bench.topics.journal.records == [b"x"]
    assert m.AppendAcknowledged(1) not in heard


def test_appends_that_have_not_left_die_with_the_process(bench: Bench) -> None:
    bench.cluster.set_broker(available=False)
    bench.log.append(b"x")
    bench.heard()
    bench.host.end("killed")
    bench.cluster.set_broker(available=True)
    bench.heard()
    assert bench.topics.journal.records == []


def test_nothing_lands_and_nothing_is_fetched_while_the_broker_is_away(bench: Bench) -> None:
    bench.cluster.set_broker(available=False)
    bench.log.append(b"x")
    bench.log.probe_end()
    assert [each for each in bench.heard() if each != m.JournalEnd(None)] == []
    bench.cluster.set_broker(available=True)
    heard = bench.heard()
    assert m.JournalRecords([(0, b"x")]) in heard
    assert m.AppendAcknowledged(1) in heard


def test_a_pause_strikes_between_two_effects(bench: Bench) -> None:
    bench.host.scheduled_fault = ScheduledFault("append", skip=1, pause_us=5_000 * MS)
    bench.log.append(b"before")
    bench.log.append(b"after")
    bench.heard()
    assert bench.topics.journal.records == [b"before"]
    bench.heard(3_000)
    assert bench.topics.journal.records == [b"before", b"after"]
    assert bench.cluster.coverage["pauses between two effects"] == 1


def test_to_code_that_runs_ahead_of_a_pause_it_is_later(bench: Bench) -> None:
    before_us = bench.host.clock_us()
    bench.host.pause(700 * MS)
    assert bench.host.clock_us() == before_us + 700 * MS


@pytest.mark.parametrize(("after", "landed"), [(False, []), (True, [b"x"])])
def test_a_kill_strikes_before_or_after_an_effect(
    bench: Bench, after: bool, landed: list[bytes]
) -> None:
    bench.host.scheduled_fault = ScheduledFault("append", after=after)
    with pytest.raises(Killed):
        bench.log.append(b"x")
    bench.heard()
    assert bench.topics.journal.records == landed


def outputs(seq: int) -> Outputs:
    return Outputs(seq, [b'{"seq":%d}' % seq])


def test_a_sinks_first_request_can_be_lost_while_the_second_lands(bench: Bench) -> None:
    bench.log.open_sink("results")
    bench.heard()
    producer = bench.log.sink_producers["results"]
    bench.log.publish("results", outputs(0))
    bench.log.publish("results", outputs(1))
    producer._lose_at_crash(1.0)
    bench.heard()
    assert (bench.topics.sinks["results"].tail, len(producer.queue)) == (2, 0)


def test_of_an_established_sink_producer_a_prefix_lands(bench: Bench) -> None:
    bench.log.open_sink("results")
    bench.log.publish("results", outputs(0)) if bench.heard() else None
    bench.heard()
    for seq in range(1, 8):
        bench.log.publish("results", outputs(seq))
    bench.log.sink_producers["results"]._lose_at_crash(1.0)
    bench.heard()
    topic = bench.topics.sinks["results"]
    assert topic.tail == topic.next_seq < 8


def test_a_stage_has_a_leader_and_all_is_well() -> None:
    cluster = ScenarioCluster()
    assert cluster.simulated.is_healthy()
    assert (cluster.epoch, cluster.published, len(cluster.standbys)) == (1, 2, 2)


Damage = Callable[[ScenarioCluster], None]


def _wrong_balance(cluster: ScenarioCluster) -> None:
    cluster.process(cluster.standbys[0]).replica.machine.state["a0"] += 1


def _wrong_fold(cluster: ScenarioCluster) -> None:
    cluster.process(cluster.standbys[0]).replica.journal.published["results"] = 99


def _early_publish(cluster: ScenarioCluster) -> None:
    cluster.log(cluster.leader).publish("results", outputs(2))


def _wrong_output(cluster: ScenarioCluster) -> None:
    cluster.log(cluster.leader).publish("results", outputs(1))


def _gap_in_the_sink(cluster: ScenarioCluster) -> None:
    cluster.simulated.topics[0].sinks["results"].land(5, b'{"seq":5}')


def _wrong_answer(cluster: ScenarioCluster) -> None:
    query = cluster.query(cluster.leader)
    token = cluster.simulated.audit.queries.index(query)
    cluster.process(cluster.leader).inbox.reply(
        token, {"account": query.account, "balance": 3}, 1, 1, None
    )


def _stale_answer(cluster: ScenarioCluster) -> None:
    query = cluster.query(cluster.leader)
    token = cluster.simulated.audit.queries.index(query)
    cluster.process(cluster.leader).inbox.reply(token, None, -1, 1, None)


def _unread_mark(cluster: ScenarioCluster) -> None:
    heartbeat = b'{"kind":"heartbeat","epoch":1,"seq":2,"published":{"results":9},"time":0}'
    cluster.simulated.topics[0].journal.land(heartbeat)


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (_wrong_balance, "state_follows_from_the_journal"),
        (_wrong_fold, "every_replica_folds_a_prefix_to_the_same_state"),
        (_early_publish, "no_output_is_published_before_it_is_stable"),
        (_wrong_output, "nobody_publishes_what_it_saw_in_the_sink"),
        (_gap_in_the_sink, "a_sink_has_no_gap"),
        (_wrong_answer, "an_answer_reflects_only_accepted_state"),
        (_stale_answer, "a_linearizable_answer_is_not_stale"),
        (_unread_mark, "a_mark_is_never_ahead_of_the_sink"),
    ],
)
def test_damage_is_noticed(damage: Damage, invariant: str) -> None:
    cluster = ScenarioCluster()
    if damage is _wrong_output:
        cluster.log(cluster.leader)._tails["results"] = 1
        invariant = "an_output_follows_from_the_journal"
    with pytest.raises(Violation) as caught:
        damage(cluster)
        cluster.run(500)
    assert caught.value.invariant == invariant


# --- the reference -----------------------------------------------------------------------------


def test_the_reference_fold_needs_all_life_seen() -> None:
    fold = ReferenceFold()
    claim: dict[str, Any] = {"kind": "claim", "epoch": 1, "incarnation": "a", "seen": -1}
    assert fold.take(0, b"", claim) == "accepted"
    assert fold.take(1, b"", claim | {"epoch": 2, "incarnation": "b"}) == "void"
    assert fold.take(2, b"", claim | {"epoch": 2, "incarnation": "b", "seen": 0}) == "accepted"


def test_the_reference_ledger_refuses_what_it_must() -> None:
    ledger = ReferenceLedger()
    steps: list[tuple[dict[str, Any], Any]] = [
        ({"type": "deposit", "account": "a", "amount": 1}, "unknown_account"),
        ({"type": "open", "account": "a"}, [{"type": "opened", "account": "a"}]),
        ({"type": "open", "account": "a"}, "account_exists"),
        ({"type": "withdraw", "account": "a", "amount": 1}, "insufficient_funds"),
        ({"type": "transfer", "from": "a", "to": "a", "amount": 1}, "same_account"),
    ]
    for command, expected in steps:
        assert ledger.decide(command) == expected
    assert (ledger.accounts, ledger.tally) == ({"a": 0}, 0)


@pytest.mark.parametrize(
    ("command", "valid"),
    [
        ({"id": "1", "type": "open", "account": "a"}, True),
        ({"id": "1", "type": "deposit", "account": "a", "amount": 2**53 - 1}, True),
        ({"id": "1", "type": "deposit", "account": "a", "amount": 2**53}, False),
        ({"id": "1", "type": "deposit", "account": "a", "amount": True}, False),
        ({"id": "", "type": "open", "account": "a"}, False),
        ([], False),
        (None, False),
    ],
)
def test_the_reference_knows_a_command(command: Any, valid: bool) -> None:
    assert is_command(command) is valid
