from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from postjournal.cli.commands.faults import find_replica
from postjournal.cli.display.status import next_steps, status_tables
from postjournal.cli.errors import OperationFailed
from postjournal.cli.handover import check_handover
from postjournal.cli.local import status as status_module
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.programs import programs
from postjournal.cli.local.status import (
    ReplicaRow,
    ServiceRow,
    StateResponse,
    SystemStatus,
    configuration_error,
    find_leader,
    local_status,
    log_tail,
)
from postjournal.cli.local.supervisor import ProgramInfo
from postjournal.cluster.status import ReplicaStatus
from tests.support.plan import PLAN
from tests.support.services import replica_status


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


def response(replica: str, state: str, epoch: int) -> StateResponse:
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
    return StateResponse(replica, 1, [shard])


TRIO = status(row("replica-1", "standby"), row("replica-2", "leader"), row("replica-3", "down"))


def test_the_json_has_the_fields_of_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {"replica-1": response("replica-1", "leader", 3), "replica-2": None}
    monkeypatch.setattr(status_module, "fetch_states", lambda _: states)
    layout = Layout(tmp_path)
    running = {
        program.name: ProgramInfo(program.name, "RUNNING", None, 0)
        for program in programs(PLAN, layout, Path("/libs"))
    }
    found = msgspec.json.decode(msgspec.json.encode(local_status(PLAN, layout, running)))
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


def test_of_two_replicas_that_report_to_lead_the_one_in_the_higher_epoch_counts() -> None:
    rows = status(row("replica-1", "leader", epoch=3), row("replica-2", "leader", epoch=4))
    assert rows.leader() == "replica-2"
    states = {"a": response("a", "leader", 3), "b": response("b", "leader", 4), "c": None}
    assert find_leader(states, shard=0) == "b"
    assert find_leader(states, shard=1) is None


def test_the_argument_leader_means_the_replica_that_leads() -> None:
    assert find_replica("leader", TRIO, 0) == "replica-2"
    assert find_replica("replica-3", TRIO, 0) == "replica-3"


def test_an_unknown_replica_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(OperationFailed, match="replica-1, replica-2, replica-3"):
        find_replica("kafka", TRIO, 0)


def test_without_a_leader_the_argument_leader_is_rejected() -> None:
    with pytest.raises(OperationFailed, match="no leader now"):
        find_replica("leader", status(row("replica-1", "standby")), 0)


@pytest.mark.parametrize(
    ("rows", "shard", "successor", "message"),
    [
        (TRIO, 0, "replica-3", "not a standby of shard 0; standbys: replica-1"),
        (TRIO, 0, "unknown", "not a standby of shard 0"),
        (TRIO, 0, "replica-2", "already leads shard 0"),
        (TRIO, 7, None, "no shard 7"),
        (status(row("replica-1", "leader")), 0, None, "no standby that could take over"),
        (status(row("replica-1", "standby")), 0, None, "no leader now"),
    ],
)
def test_an_impossible_handover_is_rejected(
    rows: SystemStatus, shard: int, successor: str | None, message: str
) -> None:
    with pytest.raises(OperationFailed, match=message):
        check_handover(rows, shard, successor)


def test_a_handover_check_returns_the_current_leader() -> None:
    assert check_handover(TRIO, 0, None) == "replica-2"
    assert check_handover(TRIO, 0, "replica-1") == "replica-2"


def test_the_table_shows_every_replica_and_service() -> None:
    TRIO.replicas[2].error = "out of memory"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(status_tables(TRIO))
    text = console.export_text()
    for word in ("replica-1", "standby", "leader", "down", "redis", "replica-3: out of memory"):
        assert word in text


def test_the_table_shows_how_the_previous_engine_of_a_shard_ended() -> None:
    words = "killed by SIGSEGV, at most 60 MiB: in [/lib/x.so] frame[0]"
    ended = row("replica-2", "standby", shard=3)
    ended.last_end = words
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(status_tables(status(ended)))
    assert f"replica-2: shard 3: its previous engine ended: {words}" in console.export_text()


def test_the_row_of_a_shard_has_its_engine_and_how_the_previous_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarted, restarting = (
        replica_status("replica-1", "standby", 1, None, shard=shard, pid=pid, last_end="killed")
        for shard, pid in ((0, 42), (1, 0))
    )
    states = {"replica-1": StateResponse("replica-1", 1, [restarted, restarting])}
    monkeypatch.setattr(
        status_module, "fetch_states", lambda _: dict.fromkeys(PLAN.replica_names) | states
    )
    layout = Layout(tmp_path)
    running = {
        program.name: ProgramInfo(program.name, "RUNNING", None, 0)
        for program in programs(PLAN, layout, Path("/libs"))
    }
    rows = local_status(PLAN, layout, running).replicas[:3]
    assert [found.engine_pid for found in rows] == [42, None, None]
    assert [found.last_end for found in rows] == ["killed", "killed", None]


def test_up_prints_addresses_and_first_commands() -> None:
    text = next_steps(PLAN.addresses)
    assert "http://127.0.0.1:8080/api/v1/commands" in text
    assert '{"type":"transfer","from":"alice","to":"bob","amount":30}' in text


def test_only_an_invalid_configuration_is_quoted(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    layout.log("producer").write_text("one\ntwo\nPOSTJOURNAL_SHARDS='x': must be a number\n")
    rejected = ProgramInfo("producer", "EXITED", None, 78)
    assert configuration_error(layout, rejected) == "POSTJOURNAL_SHARDS='x': must be a number"
    assert configuration_error(layout, ProgramInfo("producer", "EXITED", None, 1)) is None
    assert configuration_error(layout, ProgramInfo("producer", "RUNNING", 5, 78)) is None
    assert log_tail(layout, "producer", 2).startswith("two\n")
    assert log_tail(layout, "nothing", 2) == ""
