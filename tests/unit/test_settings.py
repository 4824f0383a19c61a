"""Configuration: defaults that work, errors that name the variable to change."""

import re
from pathlib import Path

import pytest
import yaml

from postjournal.app import load_application
from postjournal.config import reference as configuration
from postjournal.config.settings import GROUPS, CoordinatorSettings, Settings, StoreSettings
from postjournal.config.variables import Variable
from postjournal.core.errors import ConfigurationError
from postjournal.ledger import Ledger
from services.setup.secrets import contents


def test_defaults_need_no_variable() -> None:
    settings = Settings.from_environment({})
    assert (settings.namespace, settings.shards, settings.http_port) == ("ledger", 1, 7070)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("POSTJOURNAL_SHARDS", "0"),
        ("POSTJOURNAL_SHARDS", "two"),
        ("POSTJOURNAL_HTTP_PORT", "70000"),
        ("POSTJOURNAL_DEDUPE_WINDOW", "-1"),
        ("POSTJOURNAL_NAMESPACE", "no spaces"),
        ("POSTJOURNAL_REPLICA", "a/b"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_environment({variable: text})


def test_the_application_is_found_by_its_name() -> None:
    assert isinstance(load_application("postjournal.ledger:Ledger"), Ledger)


@pytest.mark.parametrize(
    "name", ["", "nowhere:Ledger", "postjournal.ledger:Missing", "postjournal.ledger:MAX_AMOUNT"]
)
def test_an_invalid_application_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="POSTJOURNAL_APP"):
        load_application(name)


def test_without_a_url_there_is_no_store() -> None:
    assert StoreSettings.from_environment({}) is None


def test_a_secret_may_stand_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden\n")
    variables = {
        "POSTJOURNAL_SNAPSHOT_URL": "s3://bucket",
        "POSTJOURNAL_SNAPSHOT_SECRET_FILE": str(tmp_path / "secret"),
    }
    store = StoreSettings.from_environment(variables)
    assert store is not None
    assert store.secret == "hidden"
    assert "hidden" not in repr(store)


def test_a_secret_file_that_is_missing_is_refused_by_its_variable() -> None:
    with pytest.raises(ConfigurationError, match="POSTJOURNAL_API_TOKEN_FILE"):
        CoordinatorSettings.from_environment({"POSTJOURNAL_API_TOKEN_FILE": "/nowhere/at/all"})


def test_the_reference_page_is_up_to_date() -> None:
    """Else: python -m postjournal.config.reference."""
    assert configuration.FILE.read_text() == configuration.reference()


def test_every_variable_of_the_code_is_in_the_reference() -> None:
    known = {variable.name for group in GROUPS.values() for variable in group}
    known |= {f"{name}_FILE" for name in known}
    root = configuration.FILE.parents[1]
    files = [*root.glob("services/**/*.py"), *root.glob("shared/postjournal/**/*.py")]
    files += root.glob("compose*.yaml")
    used = {
        name
        for file in files
        for name in re.findall(r"(?<![_A-Z])POSTJOURNAL_[A-Z_]+[A-Z]", file.read_text())
    }
    of_the_command_line = {"POSTJOURNAL_SYSTEM", "POSTJOURNAL_REPLICAS", "POSTJOURNAL_SIM_SEEDS"}
    assert used - known <= of_the_command_line


# --- the deployment in containers -----------------------------------------------------------

ROOT = configuration.FILE.parents[1]
OURS = {"replica", "producer", "coordinator", "consumer-results", "consumer-balances"} | {
    "leader-view"
}
READ_BY = {
    "POSTJOURNAL_APP": OURS,
    "POSTJOURNAL_NAMESPACE": OURS,
    "POSTJOURNAL_SHARDS": OURS,
    "POSTJOURNAL_FSYNC": OURS,
    "POSTJOURNAL_LOG_FORMAT": OURS,
    # Of the coordinator a query of the past, which reads the replicas' snapshots.
    "POSTJOURNAL_DEDUPE_WINDOW": {"replica", "coordinator"},
    "POSTJOURNAL_ALLOW_CRASH": {"replica", "coordinator"},
    "POSTJOURNAL_SNAPSHOT_EVERY_MINUTES": {"coordinator"},
    "POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS": {"coordinator"},
    "POSTJOURNAL_SNAPSHOT_KEEP": {"coordinator"},
    "POSTJOURNAL_TRIM": {"coordinator"},
}


def dotenv() -> dict[str, str]:
    lines = (ROOT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_what_the_env_file_sets_reaches_each_service_that_reads_it() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    given = {
        name: {s for s in OURS if services[s]["environment"].get(name) == f"${{{name}}}"}
        for name in READ_BY
    }
    assert given == READ_BY
    given_there = {name for name in dotenv() if name.startswith("POSTJOURNAL_")}
    assert given_there - {"POSTJOURNAL_REPLICAS"} == set(READ_BY)


def test_the_env_file_sets_the_defaults() -> None:
    variables = {variable.name: variable for group in GROUPS.values() for variable in group}
    values = dotenv()
    for name in READ_BY:
        variable = variables[name]
        assert isinstance(variable, Variable)
        assert variable.read(values) == variable.default, name


def test_no_container_waits_long_for_the_name_of_one_that_does_not_exist() -> None:
    """The name of a killed broker cost each client 10 s per lookup, and the system 26 s in all."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert service["dns_opt"] == ["timeout:1", "attempts:1"], name


def test_every_secret_file_that_a_service_reads_exists_in_its_volume() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    files = contents(lambda name: name, "ledger", "kafka:9092")
    for service in OURS:
        wanted = {
            value.removeprefix("/run/secrets/")
            for name, value in services[service]["environment"].items()
            if name.endswith("_FILE")
        }
        assert wanted <= files[service].keys(), service
