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
from postjournal.cli.local.readiness import ignore_step
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


def test_every_service_is_a_program(tmp_path: Path) -> None:
    sections = parsed_configuration(tmp_path)
    assert sections["group:storage"]["programs"] == "kafka,redis"
    assert sections["group:services"]["programs"].split(",") == [
        *("replica-1", "replica-2", "producer"),
        *("consumer-results", "consumer-balances", "leader-view", "coordinator"),
    ]


def test_storage_starts_first_and_so_stops_last(tmp_path: Path) -> None:
    sections = parsed_configuration(tmp_path)
    assert int(sections["group:storage"]["priority"]) < int(sections["group:services"]["priority"])


def test_a_service_with_an_invalid_configuration_is_not_restarted(tmp_path: Path) -> None:
    program = parsed_configuration(tmp_path)["program:replica-1"]
    assert (program["autorestart"], program["exitcodes"]) == ("unexpected", "78")
    # Otherwise supervisord counts an early exit as a failed start and retries for any status.
    assert program["startsecs"] == "0"


@pytest.mark.parametrize("name", ["a b%c", "a #b", "a ;b", "a  ;;% d", "it's; #1\"\\", "Müller"])
def test_supervisord_reads_paths_with_any_characters(tmp_path: Path, name: str) -> None:
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
    (program,) = (found for found in group.process_configs if found.name == "replica-2")
    assert program.directory == str(PROJECT_ROOT)
    assert program.stdout_logfile == str(layout.log("replica-2"))
    assert shlex.split(program.command) == [
        *("sh", "-c", WAIT_THEN_RUN, str(layout.started_mark("replica-2")), "3.0"),
        *(sys.executable, "-m", "services.replica"),
    ]


def test_replicas_restart_after_three_seconds_and_others_sooner(tmp_path: Path) -> None:
    by_name = {p.name: p for p in programs(PLAN, Layout(tmp_path), Path("/libs"))}
    assert by_name["replica-1"].restart_s == 3
    assert by_name["producer"].restart_s < 1


def test_the_wrapper_waits_only_before_a_restart_and_keeps_the_pid(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = ["sh", "-c", WAIT_THEN_RUN, str(mark), "0.01", "sh", "-c", "echo $$"]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            output, _ = process.communicate(timeout=10)
        assert output.strip() == str(process.pid)
        assert mark.exists()


def test_the_services_read_the_settings_of_the_plan(tmp_path: Path) -> None:
    by_name = {p.name: p for p in programs(PLAN, Layout(tmp_path), Path("/libs"))}
    settings = Settings.from_environment(
        {**service_environment(PLAN), **by_name["replica-2"].environment}
    )
    assert (settings.kafka.bootstrap, settings.shards) == ("127.0.0.1:9092", 4)
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


def test_redis_reads_a_directory_with_any_characters() -> None:
    assert 'dir "/d\\\\\\"e\\""\n' in redis_configuration(Path('/d\\"e"'), 3)


def java_properties(text: str) -> dict[str, str]:
    """Parses as `java.util.Properties.load(InputStream)` does: escapes within Latin-1."""
    pairs = (line.split("=", 1) for line in text.encode().decode("latin-1").splitlines())
    return {key: value.encode("latin-1").decode("unicode_escape") for key, value in pairs}


@pytest.mark.parametrize("name", ["Müller", "日本", "back\\next", "a #b ;c", "😀"])
def test_java_reads_a_directory_with_any_characters(name: str) -> None:
    found = java_properties(broker_properties(Path("/home") / name, 1, 2))["log.dirs"]
    # Java's chars are UTF-16.
    assert found.encode("utf-16", "surrogatepass").decode("utf-16") == f"/home/{name}"


def test_java_decodes_paths_as_utf_8_in_every_locale(tmp_path: Path) -> None:
    kafka = parsed_configuration(tmp_path)["program:kafka"]
    assert kafka["environment"] == 'LC_ALL="C.UTF-8"'


@pytest.mark.parametrize("name", ["a,b", "line\nbreak", "latin\udce4"])
def test_a_directory_that_kafka_cannot_use_is_rejected(tmp_path: Path, name: str) -> None:
    system = LocalSystem(tmp_path / name)
    with pytest.raises(OperationFailed, match="Move it, or the whole checkout"):
        system._prepare(1, 1, ignore_step)
    assert not system.layout.directory.exists()


def test_the_record_of_a_system_survives_a_round_trip(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert read_plan(layout) is None
    layout.create()
    plan = msgspec.structs.replace(PLAN, directory=str(tmp_path))
    write_plan(layout, plan)
    assert read_plan(layout) == plan


def test_the_record_in_a_copied_state_directory_is_ignored(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    write_plan(layout, PLAN)
    assert read_plan(layout) is None


def test_a_damaged_record_is_ignored(tmp_path: Path) -> None:
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
def test_the_version_of_java_is_parsed_in_all_formats(text: str, major: int | None) -> None:
    assert java_major(text) == major


class Running(LocalSystem):
    """A system that is running according to `plan`."""

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
    interactive: bool = False,
    **environment: str,
) -> Plan:
    """The plan of `up` in a shell with these variables, which differ afterwards."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    system = LocalSystem(directory, prefer_well_known_ports=interactive)
    plan = system._make_plan(1, 1, ignore_step)
    for name in environment:
        monkeypatch.setenv(name, "another")
    return plan


@pytest.mark.parametrize(("value", "may"), [("0", False), ("1", True), ("", True)])
def test_a_variable_decides_whether_the_page_may_crash_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, may: bool
) -> None:
    plan = planned(tmp_path, monkeypatch, interactive=True, POSTJOURNAL_ALLOW_CRASH=value)
    assert Settings.from_environment(service_environment(plan)).allow_crash is may


def test_an_empty_variable_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, monkeypatch, POSTJOURNAL_NAMESPACE="", POSTJOURNAL_SNAPSHOT_URL="")
    assert plan.namespace == "ledger"
    assert plan.snapshot_url == Layout(tmp_path).snapshots.as_uri()
    monkeypatch.setattr(target, "running_system", lambda: Running(plan))
    monkeypatch.setenv("POSTJOURNAL_BOOTSTRAP", "")
    settings = Settings.from_environment(target.target_environment(None))
    assert settings.kafka.bootstrap == plan.address("kafka")


def test_a_command_uses_the_application_and_window_of_the_running_system(
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
    settings = Settings.from_environment(target.target_environment(None))
    assert (settings.app, settings.dedupe_window) == ("postjournal.samples.seats:Seats", 1000)


def test_a_running_system_fixes_the_defaults_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, monkeypatch, POSTJOURNAL_APP="", POSTJOURNAL_DEDUPE_WINDOW="")
    settings = Settings.from_environment(service_environment(plan))
    assert service_environment(plan)["POSTJOURNAL_DEDUPE_WINDOW"] == "100000"
    assert settings.app == "postjournal.ledger:Ledger"


def test_with_an_older_record_application_and_window_come_from_the_shell(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    plan = msgspec.structs.replace(PLAN, directory=str(tmp_path), environment={})
    older = msgspec.to_builtins(plan)
    del older["application"], older["dedupe_window"]
    layout.plan.write_bytes(msgspec.json.encode(older))
    found = read_plan(layout)
    assert found == plan
    assert not {"POSTJOURNAL_APP", "POSTJOURNAL_DEDUPE_WINDOW"} & service_environment(found).keys()
