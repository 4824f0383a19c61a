from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from supervisor.options import ServerOptions

from postjournal.cli import target
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.kafka import broker_properties, java_major
from postjournal.cli.local.layout import PROJECT_ROOT, Layout
from postjournal.cli.local.plan import Plan, read_plan, write_plan
from postjournal.cli.local.programs import (
    WAIT_THEN_RUN,
    programs,
    service_environment,
    supervisor_configuration,
)
from postjournal.cli.local.readiness import ignore_progress
from postjournal.cli.local.redis_server import redis_configuration
from postjournal.cli.local.system import LocalSystem
from postjournal.config.settings import Settings
from tests.support.plan import PLAN


def parsed_configuration(directory: Path) -> configparser.RawConfigParser:
    layout = Layout(directory)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    text = supervisor_configuration(PLAN, layout, programs(PLAN, layout, Path("/libs")))
    parser.read_string(text)
    return parser


def test_every_service_of_the_design_is_a_program(tmp_path: Path) -> None:
    sections = parsed_configuration(tmp_path)
    assert sections["group:storage"]["programs"] == "kafka,redis"
    assert sections["group:services"]["programs"].split(",") == [
        *("replica-1", "replica-2", "producer"),
        *("consumer-results", "consumer-balances", "leader-view", "coordinator"),
    ]


def test_storage_starts_first_and_so_stops_last(tmp_path: Path) -> None:
    sections = parsed_configuration(tmp_path)
    assert int(sections["group:storage"]["priority"]) < int(sections["group:services"]["priority"])


def test_a_service_that_refuses_its_configuration_is_not_restarted(tmp_path: Path) -> None:
    program = parsed_configuration(tmp_path)["program:replica-1"]
    assert (program["autorestart"], program["exitcodes"]) == ("unexpected", "78")
    # Or supervisord would count an early end as a failed start and try again whatever the code.
    assert program["startsecs"] == "0"


@pytest.mark.parametrize("name", ["a b%c", "a #b", "a ;b", "a  ;;% d", "it's; #1\"\\", "Müller"])
def test_supervisord_reads_paths_as_they_are_called(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path / name)
    layout.create()
    plan = msgspec.structs.replace(PLAN, socket=str(layout.run / "s"))
    text = supervisor_configuration(plan, layout, programs(plan, layout, Path("/libs")))
    layout.supervisor_configuration.write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(layout.supervisor_configuration)])
    assert options.logfile == str(layout.log("supervisord"))
    assert options.pidfile == str(layout.run / "supervisord.pid")
    assert options.childlogdir == str(layout.logs)
    assert options.server_configs[0]["file"] == str(layout.run / "s")
    (group,) = (group for group in options.process_group_configs if group.name == "services")
    (program,) = (each for each in group.process_configs if each.name == "replica-2")
    assert program.directory == str(PROJECT_ROOT)
    assert program.stdout_logfile == str(layout.log("replica-2"))
    assert shlex.split(program.command) == [
        *("sh", "-c", WAIT_THEN_RUN, str(layout.started_mark("replica-2")), "3.0"),
        *(sys.executable, "-m", "services.replica"),
    ]


def test_replicas_restart_after_three_seconds_and_others_at_once(tmp_path: Path) -> None:
    by_name = {p.name: p for p in programs(PLAN, Layout(tmp_path), Path("/libs"))}
    assert by_name["replica-1"].restart_s == 3
    assert by_name["producer"].restart_s < 1


def test_the_wrapper_waits_only_before_a_restart_and_keeps_the_pid(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = ["sh", "-c", WAIT_THEN_RUN, str(mark), "0.01", "sh", "-c", "echo $$"]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            said, _err = process.communicate(timeout=10)
        assert said.strip() == str(process.pid)
        assert mark.exists()


def test_the_services_read_what_the_plan_says(tmp_path: Path) -> None:
    by_name = {p.name: p for p in programs(PLAN, Layout(tmp_path), Path("/libs"))}
    settings = Settings.from_environment(
        {**service_environment(PLAN), **by_name["replica-2"].environment}
    )
    assert (settings.bootstrap, settings.shards) == ("127.0.0.1:9092", 4)
    assert (settings.replica, settings.http_port, settings.tripwire_port) == (
        *("replica-2", 7080),
        7081,
    )
    assert (settings.bind, settings.advertise) == ("127.0.0.1", "127.0.0.1")
    assert settings.dedupe_window == 7


def test_everything_listens_on_the_loopback_only() -> None:
    properties = broker_properties(Path("/d"), 1, 2)
    assert "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n" in properties
    assert "auto.create.topics.enable=false\n" in properties
    assert redis_configuration(Path("/d"), 3).startswith("bind 127.0.0.1\nport 3\n")


def test_redis_reads_its_directory_as_it_is_called() -> None:
    assert 'dir "/d\\\\\\"e\\""\n' in redis_configuration(Path('/d\\"e"'), 3)


def java_properties(text: str) -> dict[str, str]:
    """As `java.util.Properties.load(InputStream)` has it: escapes within Latin-1."""
    pairs = (line.split("=", 1) for line in text.encode().decode("latin-1").splitlines())
    return {key: value.encode("latin-1").decode("unicode_escape") for key, value in pairs}


@pytest.mark.parametrize("name", ["Müller", "日本", "back\\next", "a #b ;c", "😀"])
def test_java_reads_kafkas_directory_as_it_is_called(name: str) -> None:
    found = java_properties(broker_properties(Path("/home") / name, 1, 2))["log.dirs"]
    # Java's chars are UTF-16.
    assert found.encode("utf-16", "surrogatepass").decode("utf-16") == f"/home/{name}"


def test_java_takes_paths_for_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    kafka = parsed_configuration(tmp_path)["program:kafka"]
    assert kafka["environment"] == 'LC_ALL="C.UTF-8"'


@pytest.mark.parametrize("name", ["a,b", "line\nbreak", "latin\udce4"])
def test_a_directory_that_kafka_would_split_is_refused(tmp_path: Path, name: str) -> None:
    system = LocalSystem(tmp_path / name)
    with pytest.raises(OperationFailed, match="Move it, or the whole checkout"):
        system._prepare(1, 1, ignore_progress)
    assert not system.layout.directory.exists()


def test_the_record_of_a_system_is_read_as_it_was_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert read_plan(layout) is None
    layout.create()
    plan = msgspec.structs.replace(PLAN, directory=str(tmp_path))
    write_plan(layout, plan)
    assert read_plan(layout) == plan


def test_a_copied_state_directory_does_not_stand_for_the_original(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    write_plan(layout, PLAN)
    assert read_plan(layout) is None


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    layout.plan.write_text("{")
    assert read_plan(layout) is None


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("no such thing", None),
    ],
)
def test_javas_version_is_understood_in_all_its_spellings(text: str, major: int | None) -> None:
    assert java_major(text) == major


class Running(LocalSystem):
    """As if what `plan` says were running."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(Path(plan.directory))
        self._plan = plan

    @property
    def plan(self) -> Plan:
        return self._plan


def planned(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    for_people: bool = False,
    **environment: str,
) -> Plan:
    """What `up` notes in a shell with these variables; afterwards they are others."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    system = LocalSystem(directory, prefer_well_known_ports=for_people)
    plan = system._make_plan(1, 1, ignore_progress)
    for name in environment:
        monkeypatch.setenv(name, "another")
    return plan


@pytest.mark.parametrize(("value", "may"), [("0", False), ("1", True), ("", True)])
def test_the_variable_decides_whether_the_page_may_crash_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, may: bool
) -> None:
    plan = planned(tmp_path, monkeypatch, for_people=True, POSTJOURNAL_ALLOW_CRASH=value)
    assert Settings.from_environment(service_environment(plan)).allow_crash is may


def test_an_empty_variable_is_as_one_that_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, monkeypatch, POSTJOURNAL_NAMESPACE="", POSTJOURNAL_SNAPSHOT_URL="")
    assert plan.namespace == "ledger"
    assert plan.snapshot_url == Layout(tmp_path).snapshots.as_uri()
    monkeypatch.setattr(target, "running_system", lambda: Running(plan))
    monkeypatch.setenv("POSTJOURNAL_BOOTSTRAP", "")
    settings = Settings.from_environment(target.environment_of(None))
    assert settings.bootstrap == plan.address("kafka")


def test_whoever_asks_a_running_system_learns_its_application_and_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(
        tmp_path,
        monkeypatch,
        POSTJOURNAL_APP="postjournal.samples.seats:Seats",
        POSTJOURNAL_DEDUPE_WINDOW="1000",
    )
    monkeypatch.setattr(target, "running_system", lambda: Running(plan))
    monkeypatch.delenv("POSTJOURNAL_BOOTSTRAP", raising=False)
    settings = Settings.from_environment(target.environment_of(None))
    assert (settings.app, settings.dedupe_window) == ("postjournal.samples.seats:Seats", 1000)


def test_the_defaults_of_a_running_system_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, monkeypatch, POSTJOURNAL_APP="", POSTJOURNAL_DEDUPE_WINDOW="")
    settings = Settings.from_environment(service_environment(plan))
    assert service_environment(plan)["POSTJOURNAL_DEDUPE_WINDOW"] == "100000"
    assert settings.app == "postjournal.ledger:Ledger"


def test_a_record_without_application_and_window_leaves_them_to_the_shell(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    plan = msgspec.structs.replace(PLAN, directory=str(tmp_path), environment={})
    older = msgspec.to_builtins(plan)
    del older["application"], older["dedupe_window"]
    layout.plan.write_bytes(msgspec.json.encode(older))
    found = read_plan(layout)
    assert found == plan
    assert not {"POSTJOURNAL_APP", "POSTJOURNAL_DEDUPE_WINDOW"} & service_environment(found).keys()
