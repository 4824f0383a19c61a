"""Fixtures of several test directories; unit tests and the simulation use none of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from postjournal.cli.local import ports
from postjournal.cli.local.system import LocalSystem

settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.register_profile("search", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("POSTJOURNAL_HYPOTHESIS", "same"))
# The default profile always tries the same examples, so that a run never fails by chance; use
# `search` to look for new failures.


def pytest_configure(config: pytest.Config) -> None:
    """Make SIGTERM end a test run as Ctrl-C does, so that fixtures clean up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _split_ports(config)


def _split_ports(config: pytest.Config) -> None:
    """Give each worker of pytest-xdist its own part of the free ports.

    A port is taken only when the service that it was chosen for has started, so that two
    processes that choose at the same time may choose the same one.
    """
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        size = len(ports.FREE_RANGE) // count
        ports.FREE_RANGE = ports.FREE_RANGE[number * size :][:size]


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
