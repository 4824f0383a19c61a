"""Another process writes valid records as the leader: every replica follows the journal's order."""

from __future__ import annotations

from postjournal.core import messages as m
from tests.simulation.event_loop import MS
from tests.simulation.forger import forge
from tests.simulation.host import Host
from tests.simulation.journal_producers import JournalProducer
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios.registry import scenario


@scenario
def an_accepted_forged_entry_is_applied_and_ends_the_leadership(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    incarnation = cluster.process(old).replica.incarnation
    _forge_an_entry(cluster)
    cluster.until(lambda: not cluster.process(old).leads, 50, "the leader has read it")
    cluster.settle()
    assert (cluster.epoch, cluster.audit.fold.next_seq, cluster.published) == (2, 3, 3)
    assert cluster.process(old).replica.incarnation == incarnation, "nothing of its own was lost"


@scenario
def a_leader_whose_entries_in_flight_lose_to_a_forged_entry_rebuilds(
    cluster: ScenarioCluster,
) -> None:
    old = cluster.leader
    producer = _hold_entries_in_flight(cluster, old)
    forge(cluster.simulated, 0, "entry")
    cluster.until(lambda: cluster.count("rebuilds") == 1, 50, "the leader has read it")
    producer.release()
    cluster.settle()
    assert cluster.count("void entries") + cluster.count("alarms at corrupt entries") == 1
    assert (cluster.epoch, cluster.audit.fold.next_seq, cluster.published) == (2, 5, 5)


@scenario
def a_stopping_leader_stops_at_a_forged_entry(cluster: ScenarioCluster) -> None:
    old = cluster.leader
    producer = _hold_entries_in_flight(cluster, old)
    old.stopping = True
    cluster.process(old).inbox.put(m.StopRequested())
    cluster.run(20)
    assert old.alive, "it waits for what is in flight"
    forge(cluster.simulated, 0, "entry")
    cluster.until(lambda: not old.alive, 50, "it stops")
    producer.release()
    cluster.restart_exited()
    cluster.settle()
    assert (cluster.audit.fold.next_seq, cluster.published) == (5, 5)


@scenario
def a_lone_leader_leads_again_after_a_forged_entry(cluster: ScenarioCluster) -> None:
    for other in cluster.standbys:
        other.kill()
    _forge_an_entry(cluster)
    cluster.until(lambda: cluster.epoch == 2, 700, "it leads again")
    cluster.restart_exited()
    cluster.settle()
    assert (cluster.audit.fold.next_seq, cluster.published) == (3, 3)


@scenario
def a_forged_heartbeat_does_not_end_the_leadership(cluster: ScenarioCluster) -> None:
    leader = cluster.leader
    producer = _hold_entries_in_flight(cluster, leader)
    forge(cluster.simulated, 0, "heartbeat")
    cluster.run(20)
    producer.release()
    cluster.settle()
    assert (cluster.epoch, cluster.leader, cluster.published) == (1, leader, 5)


@scenario
def a_forged_resignation_ends_the_leadership(cluster: ScenarioCluster) -> None:
    producer = _hold_entries_in_flight(cluster, cluster.leader)
    forge(cluster.simulated, 0, "resign")
    cluster.until(lambda: cluster.epoch == 2, 50, "another replica leads")
    producer.release()
    cluster.settle()
    assert (cluster.count("rebuilds"), cluster.audit.fold.next_seq, cluster.published) == (1, 5, 5)


def _forge_an_entry(cluster: ScenarioCluster) -> None:
    """Forge the entry for a command that the leader has not read."""
    source = cluster.simulated.topics[0].sources["ledger.commands"]
    source.stalled_until_us = cluster.simulated.loop.now_us + 100 * MS
    cluster.send()
    forge(cluster.simulated, 0, "entry")


def _hold_entries_in_flight(cluster: ScenarioCluster, leader: Host) -> JournalProducer:
    """Block an entry of three commands on its way to the broker."""
    producer = cluster.log(leader).appends
    producer.hold()
    for _ in range(3):
        cluster.send()
    cluster.run(10)
    leadership = cluster.process(leader).replica.leadership
    assert leadership is not None
    assert leadership.has_unconfirmed_entries
    return producer
