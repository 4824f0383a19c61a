"""Schedules are drawn from seeds alone; what was seen becomes a timeline, a picture, a report."""

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

from loadtest.bench_system import (
    Stage,
    stage_of,
)
from loadtest.chaos.picture import Picture
from loadtest.chaos.show import spark, told
from loadtest.chaos.timeline import Timeline, reigns_of
from loadtest.faults import disk
from loadtest.faults.proxy import Proxies
from loadtest.faults.schedule import (
    BROKER_REST_S,
    CALM_END_S,
    KAFKA,
    KINDS,
    Strike,
    draw,
)
from loadtest.faults.striker import Blow
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.ports import choose_ports
from postjournal.cli.local.system import LocalSystem
from postjournal.cli.main import main
from tests.support.services import replica_status

REPLICAS = ("replica-1", "replica-2", "replica-3")
TEN_MINUTES = 600.0


# --- schedules --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    drawn = draw(1, TEN_MINUTES, REPLICAS, 2)
    assert drawn == draw(1, TEN_MINUTES, REPLICAS, 2)
    assert drawn != draw(2, TEN_MINUTES, REPLICAS, 2)


@pytest.mark.parametrize("seed", range(1, 21))
def test_ten_minutes_hold_every_kind_of_strike(seed: int) -> None:
    kinds = {strike.kind for strike in draw(seed, TEN_MINUTES, REPLICAS, 1)}
    assert kinds == {kind.name for kind in KINDS}


@pytest.mark.parametrize("seed", range(1, 21))
def test_no_target_is_struck_while_it_is_struck_and_the_end_is_calm(seed: int) -> None:
    free_at_s: dict[str, float] = {}
    for strike in draw(seed, TEN_MINUTES, REPLICAS, 2):
        assert strike.at_s >= free_at_s.get(strike.target, 0.0)
        assert strike.end_s < TEN_MINUTES - CALM_END_S
        rest_s = BROKER_REST_S if strike.target == KAFKA else 0.0
        free_at_s[strike.target] = strike.end_s + rest_s


def test_a_short_run_has_strikes() -> None:
    assert all(draw(seed, 24.0, REPLICAS, 1) for seed in range(1, 50))


# --- what is asked for ------------------------------------------------------------------------


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
def test_what_makes_no_sense_is_refused_before_anything_starts(
    options: list[str], why: str
) -> None:
    result = CliRunner().invoke(main, ["chaos", *options])
    assert result.exit_code == 2
    assert why in result.output


def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["chaos", "--output", str(tmp_path / "file" / "report")])
    assert result.exit_code == 1
    assert "use --output" in result.output


def test_the_schedule_is_printed_for_people_and_for_programs() -> None:
    options = ["chaos", "--schedule", "--minutes", "10", "--seed", "3"]
    strikes = draw(3, TEN_MINUTES, REPLICAS, 1)
    told = CliRunner().invoke(main, options).output.splitlines()
    assert [line.partition("s  ")[2] for line in told] == [strike.told() for strike in strikes]
    as_json = CliRunner().invoke(main, [*options, "--json"]).output
    assert msgspec.json.decode(as_json, type=list[Strike]) == strikes


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
    disk.fill(process.pid)  # gone meanwhile: nothing to do


# --- what is left -----------------------------------------------------------------------------


class IdleSystem(LocalSystem):
    """Without processes."""

    @property
    def plan(self) -> Plan:
        return Plan(
            token="t",
            directory="/",
            namespace="ledger",
            replicas=1,
            shards=1,
            ports={},
            socket="/s",
            environment={},
        )

    def stop(self) -> None:
        return


@contextmanager
def idle_stage(directory: Path) -> Iterator[Stage]:
    system = IdleSystem(directory)
    with stage_of(system, lambda _: system.layout.create()) as stage:
        yield stage


@pytest.mark.parametrize("keep", [True, False])
def test_data_is_kept_as_asked_for_although_something_is_raised(tmp_path: Path, keep: bool) -> None:
    directory = tmp_path / "system"
    with pytest.raises(OperationFailed), idle_stage(directory) as stage:
        assert directory.is_dir()
        stage.keep = keep
        raise OperationFailed("no leader")
    assert directory.is_dir() == keep


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


def test_a_cut_link_resets_its_connections_and_refuses_others_until_it_is_mended() -> None:
    with proxied() as (proxies, port):
        with connect(port) as connection:
            assert echo(connection, b"before") == b"before"
            proxies.cut("r")
            with pytest.raises(OSError):
                echo(connection, b"now")
        with connect(port) as refused, pytest.raises(OSError):
            echo(refused, b"now")
        proxies.mend("r")
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
        proxies.mend("r")
        connection.settimeout(5)
        assert connection.recv(4) == b"held"


def test_a_slow_link_is_late_and_keeps_the_order() -> None:
    with proxied() as (proxies, port), connect(port) as connection:
        proxies.slow("r", 60)
        begun_s = time.monotonic()
        data = b"".join(b"%04d" % number for number in range(20_000))
        assert echo(connection, data) == data
        assert time.monotonic() - begun_s >= 0.12  # there and back
        proxies.mend("r")
        assert echo(connection, data) == data


# --- what was seen -------------------------------------------------------------------------------


def blow(kind: str, at_s: float, victim: str = "replica-1", **more: object) -> Blow:
    strike = Strike(at_s=at_s, kind=kind, target="leader/0", lasts_s=1.0)
    fields = {"strike": strike, "at_s": at_s, "end_s": at_s + 1, "victim": victim, "led": [0]}
    return Blow(**{**fields, **more})  # type: ignore[arg-type]


def test_a_leaders_reign_lasts_from_its_first_word_to_its_last() -> None:
    def said(name: str, state: str, epoch: int, at_ms: int) -> object:
        return replica_status(name, state, epoch, name, time=1_000_000 + at_ms)

    statuses = [
        said("replica-1", "leader", 1, 0),
        said("replica-2", "standby", 1, 100),
        said("replica-1", "leader", 1, 3_000),
        said("replica-2", "leader", 2, 3_500),
        said("replica-2", "leader", 2, 5_000),
    ]
    reigns = reigns_of(statuses, 1_000_000)  # type: ignore[arg-type]
    assert [(r.leader, r.from_s, r.to_s) for r in reigns] == [
        ("replica-1", 0.0, 3.0),
        ("replica-2", 3.5, 5.0),
    ]


def test_the_picture_is_well_formed_and_has_a_bar_for_each_strike_and_reign() -> None:
    reigns = reigns_of([replica_status("replica-1", "leader", 1, "x", time=1_000)], 0)
    timeline = Timeline(
        seconds=60,
        results=[[200] * 60],
        reigns=reigns,
        silences_ms=[5.0, 6.0],
        longest_silence_ms=6.0,
    )
    blows = [blow("kill", 5), blow("pause", 20, missed="<nobody> & nothing")]
    svg = Picture(timeline, blows, REPLICAS).svg()
    root = ElementTree.fromstring(svg)
    bars = [each for each in root.iter() if each.tag.endswith("rect") and len(each)]
    assert len(bars) == 3
    assert "leader/0" in svg


def test_a_strike_is_told_with_its_victim_and_why_it_was_missed() -> None:
    assert told(blow("pause", 5)) == "    5.0 s  pause leader/0 for 1.0 s → replica-1"
    missed = blow("pause", 5, victim="leader/0", missed="nobody leads")
    assert told(missed).endswith("(not done: nobody leads)")


def test_the_sparkline_counts_the_last_minute() -> None:
    now_ns = time.monotonic_ns()
    seen = [now_ns - 120 * 10**9] * 50 + [now_ns - 10 * 10**9] * 8 + [now_ns] * 4
    line = spark(seen)
    assert len(line.strip()) == 11
    assert set(line) == {" ", "█", "▄"}
