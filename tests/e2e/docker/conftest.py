"""One deployment for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postjournal.cli.docker.system import DockerSystem
from tests.support.containers import all_agree, deployment, docker_engine, wait_for
from tests.support.http_load import HttpLoad


@pytest.fixture(scope="package")
def system() -> Iterator[DockerSystem]:
    """Three replicas and all that belongs to them."""
    with docker_engine(), deployment() as found:
        yield found


@pytest.fixture
def load(system: DockerSystem) -> Iterator[HttpLoad]:
    """Load during the test; after it, every command took effect once and all replicas agree."""
    with HttpLoad(system.plan.url("producer")) as clients:
        clients.wait_for_more(20)
        yield clients
        clients.wait_for_more(50)
    clients.check()
    wait_for(system, all_agree)
