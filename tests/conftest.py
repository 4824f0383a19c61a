"""Fixtures of several test directories; unit tests and the simulation use none of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from postjournal.cli.local.system import LocalSystem

settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.register_profile("search", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("POSTJOURNAL_HYPOTHESIS", "same"))
# The default profile always tries the same examples, so that a run never fails by chance; use
# `search` to look for new failures.


def pytest_configure() -> None:
    """Make SIGTERM end a test run as Ctrl-C does, so that fixtures clean up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """A real Kafka and a real Redis on free ports, started for the first test that uses them."""
    system = LocalSystem(tmp_path_factory.mktemp("storage"))
    system.start_storage()
    try:
        yield system
    finally:
        system.stop()
        system.delete_data()


@pytest.fixture(scope="session")
def kafka(storage: LocalSystem) -> str:
    """The broker's host:port. All tests share it, so each uses its own namespace."""
    return storage.plan.address("kafka")


@pytest.fixture(scope="session")
def redis_server(storage: LocalSystem) -> str:
    """The URL of a Redis. All tests share it, so each uses its own keys."""
    return storage.plan.redis_url
