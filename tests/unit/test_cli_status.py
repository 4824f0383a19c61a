from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from postjournal.cli.commands.faults import resolve
from postjournal.cli.errors import OperationFailed
from postjournal.cli.handover import check_handover
from postjournal.cli.local import status as local_status
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.programs import programs
from postjournal.cli.local.status import (
    ReplicaRow,
    ServiceRow,
    StateAnswer,
    SystemStatus,
    collect,
    last_words,
    leading,
    log_tail,
)
from postjournal.cli.local.supervisor import Program
from postjournal.cli.rendering import status_tables, where_and_what_next
from postjournal.cluster.status import ReplicaStatus
from tests.support.plan import PLAN


def row(name: str, state: str, shard: int = 0, epoch: int | None = 1) -> ReplicaRow:
    return ReplicaRow(
        name=name,
        pid=1,
        state=state,
        shard=shard,
        epoch=epoch,
        http="127.0.0.1:7070",
        tripwire="127.0.0.1:7071",
    )


def status(*rows: ReplicaRow) -> SystemStatus:
    redis = ServiceRow(address="127.0.0.1:6379", pid=2, state="running")
    return SystemStatus(mode="local", replicas=list(rows), services={"redis": redis})


def said(replica: str, state: str, epoch: int) -> StateAnswer:
    shard = ReplicaStatus(
        replica=replica,
        incarnation="i",
        pid=1,
        shard=0,
        state=state,
        epoch=epoch,
        leader=None,
        leader_address=None,
        since=0,
        seq=0,
        digest="0" * 32,
        lag=0,
        lag_s=0.0,
        http="",
        tripwire="",
        time=0,
    )
    return StateAnswer(replica, 1, [shard])


TRIO = status(row("replica-1", "standby"), row("replica-2", "leader"), row("replica-3", "down"))


def test_the_json_has_the_fields_of_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"replica-1": said("replica-1", "leader", 3), "replica-2": None}
    monkeypatch.setattr(local_status, "ask_replicas", lambda _: answers)
    layout = Layout(tmp_path)
    running = {
        each.name: Program(each.name, "RUNNING", None, 0)
        for each in programs(PLAN, layout, Path("/libs"))
    }
    found = msgspec.json.decode(msgspec.json.encode(collect(PLAN, layout, running)))
    contract = {"name", "pid", "state", "shard", "epoch", "seq", "digest", "lag"}
    assert contract | {"http", "tripwire", "leader", "container"} <= found["replicas"][0].keys()
    assert found["mode"] == "local"
    assert {name: service["address"] for name, service in found["services"].items()} == {
        "kafka": "127.0.0.1:9092",
        "redis": "127.0.0.1:6379",
        "producer": "http://127.0.0.1:8080",
        "coordinator": "http://127.0.0.1:8085",
        "consumer-results": "http://127.0.0.1:8082",
        "consumer-balances": "http://127.0.0.1:8083",
        "leader-view": "http://127.0.0.1:8084",
    }


def test_of_two_that_claim_to_lead_the_higher_epoch_counts() -> None:
    rows = status(row("replica-1", "leader", epoch=3), row("replica-2", "leader", epoch=4))
    assert rows.leader() == "replica-2"
    answers = {"a": said("a", "leader", 3), "b": said("b", "leader", 4), "c": None}
    assert leading(answers, shard=0) == "b"
    assert leading(answers, shard=1) is None


def test_the_word_leader_means_the_replica_that_leads() -> None:
    assert resolve("leader", TRIO, 0) == "replica-2"
    assert resolve("replica-3", TRIO, 0) == "replica-3"


def test_an_unknown_replica_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OperationFailed, match="replica-1, replica-2, replica-3"):
        resolve("kafka", TRIO, 0)


def test_without_a_leader_the_word_leader_is_refused() -> None:
    with pytest.raises(OperationFailed, match="no leader now"):
        resolve("leader", status(row("replica-1", "standby")), 0)


@pytest.mark.parametrize(
    ("rows", "shard", "successor", "why"),
    [
        (TRIO, 0, "replica-3", "no standby of shard 0; standbys: replica-1"),
        (TRIO, 0, "nobody", "no standby of shard 0"),
        (TRIO, 0, "replica-2", "leads shard 0 already"),
        (TRIO, 7, None, "no shard 7"),
        (status(row("replica-1", "leader")), 0, None, "no standby that could take over"),
        (status(row("replica-1", "standby")), 0, None, "no leader now"),
    ],
)
def test_a_handover_that_cannot_work_is_refused(
    rows: SystemStatus, shard: int, successor: str | None, why: str
) -> None:
    with pytest.raises(OperationFailed, match=why):
        check_handover(rows, shard, successor)


def test_a_handover_names_the_leader_that_is_asked() -> None:
    assert check_handover(TRIO, 0, None) == "replica-2"
    assert check_handover(TRIO, 0, "replica-1") == "replica-2"


def test_the_table_shows_every_replica_and_service() -> None:
    TRIO.replicas[2].error = "out of luck"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(status_tables(TRIO))
    text = console.export_text()
    for word in ("replica-1", "standby", "leader", "down", "redis", "replica-3: out of luck"):
        assert word in text


def test_up_ends_with_addresses_and_something_to_try() -> None:
    text = where_and_what_next(PLAN.addresses)
    assert "http://127.0.0.1:8080/api/v1/commands" in text
    assert '{"type":"transfer","from":"alice","to":"bob","amount":30}' in text


def test_only_a_refused_configuration_is_quoted(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    layout.log("producer").write_text("one\ntwo\nPOSTJOURNAL_SHARDS='x': must be a number\n")
    refused = Program("producer", "EXITED", None, 78)
    assert last_words(layout, refused) == "POSTJOURNAL_SHARDS='x': must be a number"
    assert last_words(layout, Program("producer", "EXITED", None, 1)) is None
    assert last_words(layout, Program("producer", "RUNNING", 5, 78)) is None
    assert log_tail(layout, "producer", 2).startswith("two\n")
    assert log_tail(layout, "nothing", 2) == ""
