"""What several directories of tests share. Unit tests and the simulation start nothing."""

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
# A run of the suite must not fail for luck: `search` is for looking on purpose.


def pytest_configure() -> None:
    """A terminated test run cleans up as an interrupted one does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """A real Kafka and a real Redis on free ports, started when the first test asks."""
    system = LocalSystem(tmp_path_factory.mktemp("storage"))
    system.start_storage()
    try:
        yield system
    finally:
        system.stop()
        system.delete_data()


@pytest.fixture(scope="session")
def kafka(storage: LocalSystem) -> str:
    """The broker's host:port. Tests share it: let each use a namespace of its own."""
    return storage.plan.address("kafka")


@pytest.fixture(scope="session")
def redis_server(storage: LocalSystem) -> str:
    """The URL of a Redis. Tests share it: let each use keys of its own."""
    return storage.plan.redis_url
