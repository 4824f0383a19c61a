from __future__ import annotations

import socket

from postjournal.cli.local.ports import (
    FREE_RANGE,
    HOST,
    choose_ports,
    is_free,
    moved_ports,
    well_known_ports,
)


def all_free(_: int) -> bool:
    return True


def test_each_replica_has_two_well_known_ports_of_its_own() -> None:
    ports = well_known_ports(3)
    assert [ports[f"replica-{i}"] for i in (1, 2, 3)] == [7070, 7080, 7090]
    assert [ports[f"replica-{i}/tripwire"] for i in (1, 2, 3)] == [7071, 7081, 7091]
    assert len(set(ports.values())) == len(ports)


def test_the_well_known_ports_are_used_when_they_are_free() -> None:
    wanted = well_known_ports(3)
    assert choose_ports(wanted, prefer_wanted=True, free=all_free) == wanted
    assert moved_ports(wanted, wanted) == []


def test_only_a_port_in_use_moves_with_a_message() -> None:
    wanted = well_known_ports(1)
    chosen = choose_ports(wanted, prefer_wanted=True, free=lambda port: port != 9092)
    assert chosen["kafka"] in FREE_RANGE
    assert {name for name in wanted if chosen[name] != wanted[name]} == {"kafka"}
    message = f"port 9092 of kafka is in use: using {chosen['kafka']}"
    assert moved_ports(wanted, chosen) == [message]


def test_a_second_system_uses_no_well_known_port() -> None:
    wanted = well_known_ports(20)
    chosen = choose_ports(wanted, prefer_wanted=False, free=all_free)
    assert not set(chosen.values()) & set(wanted.values())
    assert len(set(chosen.values())) == len(wanted)


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
