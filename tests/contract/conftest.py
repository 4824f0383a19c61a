"""The two implementations of `ShardLog` that the contract tests run against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.contract.shard_log import Listener, LogUnderTest
from tests.support.contract.simulated_log import SimulatedLogUnderTest


@pytest.fixture(params=["simulated", pytest.param("kafka", marks=pytest.mark.kafka)])
def under_test(request: pytest.FixtureRequest) -> Iterator[LogUnderTest]:
    log: LogUnderTest
    if request.param == "simulated":
        log = SimulatedLogUnderTest()
    else:
        from tests.support.contract.kafka_log import KafkaLogUnderTest

        log = KafkaLogUnderTest(request.getfixturevalue("kafka"))
    yield log
    log.close()


@pytest.fixture
def listener(under_test: LogUnderTest) -> Listener:
    return Listener(under_test)
