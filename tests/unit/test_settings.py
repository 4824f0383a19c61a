"""Configuration: defaults that work, refusals that say what to change."""

import pytest

from postjournal.app import load_application
from postjournal.core.errors import ConfigurationError
from postjournal.ledger import Ledger
from postjournal.settings import Settings


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
def test_an_application_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="POSTJOURNAL_APP"):
        load_application(name)
