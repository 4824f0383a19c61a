"""The simulated cluster can cause each fault, and the invariants notice damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postjournal.core import messages as m
from postjournal.core.state.outbox import Outputs
from tests.simulation.coverage import Coverage
from tests.simulation.event_loop import MS, EventLoop
from tests.simulation.host import Killed, ScheduledFault
from tests.simulation.invariants import Violation
from tests.simulation.journal_producers import LOST, TWICE, UNACKNOWLEDGED
from tests.simulation.reference import ReferenceFold
from tests.simulation.reference_ledger import ReferenceLedger, is_command
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.support.simulation import SingleHost


@pytest.fixture
def single() -> SingleHost:
    return SingleHost()


def test_events_run_in_the_order_of_time_and_then_of_scheduling() -> None:
    loop, seen = EventLoop(1), list[str]()
    for time_us, name in ((5, "b"), (3, "a"), (5, "c")):
        loop.at(time_us, seen.append, name)
    while loop.next_at() is not None:
        loop.step()
    assert (seen, loop.now_us) == (["a", "b", "c"], 5)


def test_an_unknown_counter_is_an_error() -> None:
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
def test_an_append_has_the_chosen_outcome(
    single: SingleHost, fate: str, landed: int, answer: type
) -> None:
    if fate:
        single.log.appends.fates.append(fate)
    single.log.append(b"x")
    messages = single.messages()
    assert single.topics.journal.records == [b"x"] * landed
    reports = [type(message) for message in messages if type(message) is not m.JournalRecords]
    assert reports == [answer]


def test_appends_of_a_killed_host_can_land_later(single: SingleHost) -> None:
    single.log.appends.hold()
    single.log.append(b"x")
    single.host.end("killed")
    single.messages()
    single.log.appends.release()
    messages = single.messages()
    assert single.topics.journal.records == [b"x"]
    assert m.AppendAcknowledged(1) not in messages


def test_appends_that_have_not_departed_are_lost_with_the_host(single: SingleHost) -> None:
    single.cluster.set_broker(available=False)
    single.log.append(b"x")
    single.messages()
    single.host.end("killed")
    single.cluster.set_broker(available=True)
    single.messages()
    assert single.topics.journal.records == []


def test_nothing_lands_and_nothing_is_fetched_while_the_broker_is_unavailable(
    single: SingleHost,
) -> None:
    single.cluster.set_broker(available=False)
    single.log.append(b"x")
    single.log.probe_end()
    assert [message for message in single.messages() if message != m.JournalEnd(None)] == []
    single.cluster.set_broker(available=True)
    messages = single.messages()
    assert m.JournalRecords([(0, b"x")]) in messages
    assert m.AppendAcknowledged(1) in messages


def test_a_pause_happens_between_two_effects(single: SingleHost) -> None:
    single.host.scheduled_fault = ScheduledFault("append", skip=1, pause_us=5_000 * MS)
    single.log.append(b"before")
    single.log.append(b"after")
    single.messages()
    assert single.topics.journal.records == [b"before"]
    single.messages(3_000)
    assert single.topics.journal.records == [b"before", b"after"]
    assert single.cluster.coverage["pauses between two effects"] == 1


def test_during_a_pause_the_clock_shows_its_end(single: SingleHost) -> None:
    before_us = single.host.clock_us()
    single.host.pause(700 * MS)
    assert single.host.clock_us() == before_us + 700 * MS


@pytest.mark.parametrize(("after", "landed"), [(False, []), (True, [b"x"])])
def test_a_kill_happens_before_or_after_an_effect(
    single: SingleHost, after: bool, landed: list[bytes]
) -> None:
    single.host.scheduled_fault = ScheduledFault("append", after=after)
    with pytest.raises(Killed):
        single.log.append(b"x")
    single.messages()
    assert single.topics.journal.records == landed


def outputs(seq: int) -> Outputs:
    return Outputs(seq, [b'{"seq":%d}' % seq])


def test_a_sinks_first_request_can_be_lost_while_the_second_lands(single: SingleHost) -> None:
    single.log.open_sink("results")
    single.messages()
    producer = single.log.sink_producers["results"]
    single.log.publish("results", outputs(0))
    single.log.publish("results", outputs(1))
    producer._lose_at_crash(1.0)
    single.messages()
    assert (single.topics.sinks["results"].tail, len(producer.queue)) == (2, 0)


def test_of_an_established_sink_producer_a_prefix_lands(single: SingleHost) -> None:
    single.log.open_sink("results")
    single.log.publish("results", outputs(0)) if single.messages() else None
    single.messages()
    for seq in range(1, 8):
        single.log.publish("results", outputs(seq))
    single.log.sink_producers["results"]._lose_at_crash(1.0)
    single.messages()
    topic = single.topics.sinks["results"]
    assert topic.tail == topic.next_seq < 8


def test_a_scenario_cluster_has_a_leader_and_is_healthy() -> None:
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
    cluster.log(cluster.leader)._tails["results"] = 1
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
        (_wrong_output, "an_output_follows_from_the_journal"),
        (_gap_in_the_sink, "a_sink_has_no_gap"),
        (_wrong_answer, "an_answer_reflects_only_accepted_state"),
        (_stale_answer, "a_linearizable_answer_is_not_stale"),
        (_unread_mark, "a_mark_is_never_ahead_of_the_sink"),
    ],
)
def test_damage_is_noticed(damage: Damage, invariant: str) -> None:
    cluster = ScenarioCluster()
    with pytest.raises(Violation) as caught:
        damage(cluster)
        cluster.run(500)
    assert caught.value.invariant == invariant


# --- the reference -----------------------------------------------------------------------------


def test_the_reference_fold_rejects_a_claim_that_missed_a_record() -> None:
    fold = ReferenceFold()
    claim: dict[str, Any] = {"kind": "claim", "epoch": 1, "incarnation": "a", "seen": -1}
    assert fold.take(0, b"", claim) == "accepted"
    assert fold.take(1, b"", claim | {"epoch": 2, "incarnation": "b"}) == "void"
    assert fold.take(2, b"", claim | {"epoch": 2, "incarnation": "b", "seen": 0}) == "accepted"


def test_the_reference_ledger_rejects_invalid_commands() -> None:
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
def test_the_reference_recognizes_commands(command: Any, valid: bool) -> None:
    assert is_command(command) is valid
