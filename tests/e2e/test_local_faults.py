"""Starting and stopping under faults, mostly of Kafka and Redis without services."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local import processes
from postjournal.cli.local.plan import write_plan
from postjournal.cli.local.system import LocalSystem

pytestmark = pytest.mark.kafka


@pytest.fixture
def system(tmp_path: Path) -> Iterator[LocalSystem]:
    # So long that a socket in the state directory would exceed the kernel's limit.
    local = LocalSystem(tmp_path / ("d" * 80))
    try:
        yield local
    finally:
        local.stop()


def topics(system: LocalSystem) -> set[str]:
    admin = AdminClient({"bootstrap.servers": system.plan.address("kafka")})
    return set(admin.list_topics(timeout=60).topics)


def create_topic(system: LocalSystem, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": system.plan.address("kafka")})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(timeout=60)


def test_after_the_process_manager_is_killed_stop_ends_all_its_processes(
    system: LocalSystem, storage: LocalSystem
) -> None:
    system.start_storage()
    plan = system.plan
    managed = system.status().services
    manager = {p.pid for p in processes.of_system(plan.token)} - {s.pid for s in managed.values()}
    assert len(manager) == 1
    system.pause("redis")
    os.kill(manager.pop(), signal.SIGKILL)

    with pytest.raises(OperationFailed, match=r"run `\./postjournal down`"):
        system.status()
    system.stop()
    assert processes.of_system(plan.token) == []
    assert {row.state for name, row in storage.status().services.items() if name == "kafka"} == {
        "running"
    }, "another system was affected"


def test_data_outlives_a_stop_and_new_ports_but_not_its_deletion(system: LocalSystem) -> None:
    system.start_storage()
    create_topic(system, "kept")
    first = system.plan
    with pytest.raises(OperationFailed, match="is running"):
        system.delete_data()
    system.stop()
    system.start_storage()
    assert system.plan.ports != first.ports
    assert "kept" in topics(system)
    system.stop()
    system.delete_data()
    system.start_storage()
    assert "kept" not in topics(system)


def test_the_record_of_a_system_that_a_machine_restart_ended_is_ignored(
    system: LocalSystem, storage: LocalSystem
) -> None:
    system.layout.create()
    # If the record were used, the system behind its socket would be stopped.
    old = msgspec.structs.replace(
        storage.plan, token="of-another-time", directory=str(system.layout.directory)
    )
    write_plan(system.layout, old)
    assert not system.has_processes()
    system.start_storage()
    assert system.is_running()
    assert storage.is_running()


def test_a_service_with_an_invalid_configuration_fails_the_start_with_its_message(
    tmp_path: Path,
) -> None:
    system = LocalSystem(tmp_path, environment={"POSTJOURNAL_APP": "no.such:Application"})
    with pytest.raises(OperationFailed, match=r"invalid configuration: .*no.such:Application"):
        system.start(replicas=1)
    assert not system.has_processes()
