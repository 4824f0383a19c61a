"""Schedules of faults, the proxy and disk faults, and the timeline and chart of a chaos run."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner

from loadtest.chaos.chart import Chart
from loadtest.chaos.live_view import line_of, spark
from loadtest.chaos.timeline import Timeline, leadership_intervals
from loadtest.faults import disk
from loadtest.faults.injector import FaultInjector
from loadtest.faults.kinds import AT_LEADER, KAFKA, KINDS, Fault
from loadtest.faults.proxy import Proxies
from loadtest.faults.schedule import BROKER_REST_S, CALM_END_S, ScheduledFault, draw
from loadtest.faults.schedule_runner import InjectedFault
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.cli.local.ports import choose_ports
from postjournal.cli.main import main
from postjournal.cluster.status import ReplicaStatus
from tests.support.idle_system import idle_system
from tests.support.services import replica_status

REPLICAS = ("replica-1", "replica-2", "replica-3")
TEN_MINUTES = 600.0


# --- schedules --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    drawn = draw(1, TEN_MINUTES, REPLICAS, 2)
    assert drawn == draw(1, TEN_MINUTES, REPLICAS, 2)
    assert drawn != draw(2, TEN_MINUTES, REPLICAS, 2)


@pytest.mark.parametrize("seed", range(1, 21))
def test_ten_minutes_hold_every_kind_of_fault(seed: int) -> None:
    kinds = {fault.kind for fault in draw(seed, TEN_MINUTES, REPLICAS, 1)}
    assert kinds == {kind.name for kind in KINDS}


@pytest.mark.parametrize("seed", range(1, 21))
def test_a_target_has_one_fault_at_a_time_and_the_end_has_none(seed: int) -> None:
    free_at_s: dict[str, float] = {}
    for fault in draw(seed, TEN_MINUTES, REPLICAS, 2):
        assert fault.at_s >= free_at_s.get(fault.target, 0.0)
        assert fault.end_s < TEN_MINUTES - CALM_END_S
        rest_s = BROKER_REST_S if fault.target == KAFKA else 0.0
        free_at_s[fault.target] = fault.end_s + rest_s


@pytest.mark.parametrize("seed", range(1, 21))
def test_faults_of_a_single_process_are_aimed_at_the_leaders_of_all_shards(seed: int) -> None:
    faults = {kind.name: kind.fault for kind in KINDS}
    targets = {
        fault.target
        for fault in draw(seed, TEN_MINUTES, REPLICAS, 2)
        if faults[fault.kind] in AT_LEADER
    }
    assert targets == {"leader/0", "leader/1"}


def test_a_run_has_two_shards_unless_it_is_given_another_number() -> None:
    schedule = CliRunner().invoke(main, ["chaos", "--schedule", "--minutes", "10"]).output
    assert "leader/0" in schedule
    assert "leader/1" in schedule
    assert "leader/2" not in schedule


def test_a_short_run_has_faults() -> None:
    assert all(draw(seed, 24.0, REPLICAS, 1) for seed in range(1, 50))


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--minutes", "0.1"], "not in the range"),
        (["--minutes", "nan"], "not a valid number"),
        (["--rate", "0"], "not in the range"),
        (["--replicas", "1"], "not in the range"),
        (["--seed", "one"], "not a valid integer"),
        (["--engine", "/nowhere"], "does not exist"),
        (["--engine", str(PROJECT_ROOT)], "has no postjournal/core"),
        (["--output", str(PROJECT_ROOT / "README.md")], "is a file"),
    ],
)
def test_invalid_options_are_refused_before_anything_starts(options: list[str], why: str) -> None:
    result = CliRunner().invoke(main, ["chaos", *options])
    assert result.exit_code == 2
    assert why in result.output


def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["chaos", "--output", str(tmp_path / "file" / "report")])
    assert result.exit_code == 1
    assert "use --output" in result.output


def test_the_schedule_is_printed_as_text_and_as_json() -> None:
    options = ["chaos", "--schedule", "--minutes", "10", "--seed", "3"]
    faults = draw(3, TEN_MINUTES, REPLICAS, 2)
    lines = CliRunner().invoke(main, options).output.splitlines()
    assert [line.partition("s  ")[2] for line in lines] == [fault.description for fault in faults]
    as_json = CliRunner().invoke(main, [*options, "--json"]).output
    assert msgspec.json.decode(as_json, type=list[ScheduledFault]) == faults


# --- the disk ---------------------------------------------------------------------------------

WRITER = """
import sys
for path in sys.stdin:
    try:
        with open(path.strip(), "wb", buffering=0) as file:
            file.write(bytes(4000)), file.write(bytes(4000))
            print(file.write(bytes(4000)), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot limit another process")
def test_a_process_whose_disk_is_full_writes_again_when_it_is_freed(tmp_path: Path) -> None:
    with Popen([sys.executable, "-c", WRITER], stdin=PIPE, stdout=PIPE, text=True) as process:

        def written() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{tmp_path / 'file'}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert written() == "4000"
        disk.fill(process.pid)
        assert written() == "File too large"
        disk.free(process.pid)
        assert written() == "4000"
        process.kill()
    disk.fill(process.pid)  # a process that has exited is ignored


# --- the system -------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_data_is_kept_as_requested_after_an_exception_too(tmp_path: Path, keep: bool) -> None:
    directory = tmp_path / "system"
    with pytest.raises(OperationFailed), idle_system(directory) as system:
        assert directory.is_dir()
        system.keep = keep
        raise OperationFailed("no leader")
    assert directory.is_dir() == keep


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.HANG, Fault.DELAY])
def test_connections_of_a_system_without_proxies_are_not_changed(
    tmp_path: Path, fault: Fault
) -> None:
    with idle_system(tmp_path / "system") as system:
        injector = FaultInjector(system)
        with pytest.raises(OperationFailed, match="only in the system of a chaos run"):
            injector.inject(fault, "replica-1")


# --- the proxy, on real sockets ---------------------------------------------------------------


@contextmanager
def echo_server(port: int) -> Iterator[None]:
    server = socket.create_server(("127.0.0.1", port))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(4096):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with server:
        yield
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied() -> Iterator[tuple[Proxies, int]]:
    ports = choose_ports({"proxy": 0, "broker": 0}, prefer_wanted=False)
    with (
        echo_server(ports["broker"]),
        closing(Proxies({"r": (ports["proxy"], ports["broker"])})) as proxies,
    ):
        yield proxies, ports["proxy"]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def echo(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    received = b""
    while len(received) < len(data):
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        received += part
    return received


def test_a_link_carries_everything_both_ways() -> None:
    with proxied() as (proxies, port), connect(port) as connection:
        data = bytes(range(256)) * 2_000
        assert echo(connection, data) == data
        assert proxies.carried_bytes == {"r": 2 * len(data)}


def test_a_cut_link_resets_its_connections_and_refuses_others_until_it_is_healed() -> None:
    with proxied() as (proxies, port):
        with connect(port) as connection:
            assert echo(connection, b"before") == b"before"
            proxies.cut("r")
            with pytest.raises(OSError):
                echo(connection, b"now")
        with connect(port) as refused, pytest.raises(OSError):
            echo(refused, b"now")
        proxies.heal("r")
        with connect(port) as again:
            assert echo(again, b"after") == b"after"


def test_a_hanging_link_holds_everything_back_and_loses_nothing() -> None:
    with proxied() as (proxies, port), connect(port) as connection:
        assert echo(connection, b"before") == b"before"
        proxies.hang("r")
        connection.sendall(b"held")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        proxies.heal("r")
        connection.settimeout(5)
        assert connection.recv(4) == b"held"


def test_a_delayed_link_keeps_the_order() -> None:
    with proxied() as (proxies, port), connect(port) as connection:
        proxies.delay("r", 60)
        begun_s = time.monotonic()
        data = b"".join(b"%04d" % number for number in range(20_000))
        assert echo(connection, data) == data
        assert time.monotonic() - begun_s >= 0.12  # there and back
        proxies.heal("r")
        assert echo(connection, data) == data


# --- timeline and chart -----------------------------------------------------------------------


def injected(
    kind: str, at_s: float, victim: str = "replica-1", missed: str | None = None
) -> InjectedFault:
    scheduled = ScheduledFault(at_s=at_s, kind=kind, target="leader/0", lasts_s=1.0)
    return InjectedFault(
        scheduled=scheduled, at_s=at_s, end_s=at_s + 1, victim=victim, led=[0], missed=missed
    )


def test_a_leadership_lasts_from_its_first_status_record_to_its_last() -> None:
    def status(name: str, state: str, epoch: int, at_ms: int) -> ReplicaStatus:
        return replica_status(name, state, epoch, name, time=1_000_000 + at_ms)

    statuses = [
        status("replica-1", "leader", 1, 0),
        status("replica-2", "standby", 1, 100),
        status("replica-1", "leader", 1, 3_000),
        status("replica-2", "leader", 2, 3_500),
        status("replica-2", "leader", 2, 5_000),
    ]
    intervals = leadership_intervals(statuses, 1_000_000)
    assert [(led.leader, led.from_s, led.to_s) for led in intervals] == [
        ("replica-1", 0.0, 3.0),
        ("replica-2", 3.5, 5.0),
    ]


def test_the_chart_is_well_formed_and_has_a_bar_for_each_fault_and_leadership() -> None:
    leaders = leadership_intervals([replica_status("replica-1", "leader", 1, "x", time=1_000)], 0)
    timeline = Timeline(
        seconds=60,
        results=[[200] * 60],
        leaders=leaders,
        silences_ms=[5.0, 6.0],
        longest_silence_ms=6.0,
    )
    faults = [injected("kill", 5), injected("pause", 20, missed="<no leader> & no process")]
    svg = Chart(timeline, faults, REPLICAS).svg()
    root = ElementTree.fromstring(svg)
    bars = [element for element in root.iter() if element.tag.endswith("rect") and len(element)]
    assert len(bars) == 3
    assert "leader/0" in svg


def test_a_fault_is_printed_with_its_victim_and_why_it_was_not_injected() -> None:
    assert line_of(injected("pause", 5)) == "    5.0 s  pause leader/0 for 1.0 s → replica-1"
    missed = injected("pause", 5, victim="leader/0", missed="shard 0 has no leader")
    assert line_of(missed).endswith("(not injected: shard 0 has no leader)")


def test_the_sparkline_counts_the_last_minute() -> None:
    now_ns = time.monotonic_ns()
    seen = [now_ns - 120 * 10**9] * 50 + [now_ns - 10 * 10**9] * 8 + [now_ns] * 4
    line = spark(seen)
    assert len(line.strip()) == 11
    assert set(line) == {" ", "█", "▄"}
