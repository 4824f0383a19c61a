"""The consumers on fakes: what is written together, and what happens after failures."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from postjournal.adapters.outage import Outage
from postjournal.adapters.redis.client import connect
from postjournal.adapters.redis.projection import PositionMoved
from postjournal.config.settings import RedisAccess
from postjournal.core.errors import (
    ConfigurationError,
    JournalUnavailable,
    RecordsMissing,
    SequenceGap,
)
from postjournal.core.sequence import Position, Received
from services.consumer.balances import BalancesUpdater
from services.consumer.results import ResultsPrinter


def balance(seq: int, account: str, amount: int, shard: int = 0) -> Received:
    value = msgspec.json.encode({"account": account, "balance": amount, "id": "x", "seq": seq})
    return Received("ledger.balances", shard, seq, seq, value, 0)


class FakeProjection:
    """Redis, with transactions that may fail before or after they take effect."""

    def __init__(self) -> None:
        self.balances: dict[int, dict[str, int]] = {}
        self.positions: dict[int, Position] = {}
        self.known: dict[int, Position | None] = {}
        self.faults: list[str] = []
        self.transactions = 0

    def _fault(self) -> str:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "unavailable":
            raise redis.ConnectionError("refused")
        return fault

    def load(self, partition: int) -> Position | None:
        self._fault()
        self.known[partition] = self.positions.get(partition)
        return self.known[partition]

    def write(self, shard: int, balances: dict[str, int], position: Position) -> None:
        fault = self._fault()
        if self.positions.get(shard) != self.known[shard]:
            raise PositionMoved("moved")
        self.transactions += 1
        if self.known[shard] is None:
            self.balances[shard] = {}
        self.balances.setdefault(shard, {}).update(balances)
        self.positions[shard] = self.known[shard] = position
        if fault == "lost answer":
            raise redis.TimeoutError("no answer")

    def save(self, positions: Mapping[int, Position]) -> None:
        raise AssertionError("balances and position are written together")

    def verify(self) -> None:
        self._fault()
        if self.positions != {
            shard: position for shard, position in self.known.items() if position
        }:
            raise PositionMoved("wiped")

    def forget(self, shards: int) -> None:
        self._fault()
        self.wipe()

    def wipe(self) -> None:
        self.balances, self.positions = {}, {}


@dataclass
class FakeSource:
    """A subscription to a topic in memory; each poll returns `size` outputs."""

    projection: FakeProjection
    topic: list[Received]
    size: int = 2
    position: Position | None = None
    is_loaded: bool = False
    saved: Position | None = None
    error: Exception | None = None

    def poll(self, timeout_s: float) -> list[Received]:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if not self.is_loaded:
            self.position = self.saved = self.projection.load(0)
            self.is_loaded = True
        start = self.position.next_offset if self.position else 0
        batch = self.topic[start : start + self.size]
        if batch:
            self.position = Position(start + len(batch), batch[-1].seq)
        return batch

    def positions(self) -> dict[int, Position]:
        return {0: self.position} if self.position and self.position != self.saved else {}

    def note_saved(self) -> None:
        self.saved = self.position

    def reload(self) -> None:
        self.is_loaded = False


@dataclass
class Scenario:
    topic: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.redis = FakeProjection()
        self.source = FakeSource(self.redis, self.topic)
        self.updater = BalancesUpdater(self.source, self.redis, 1, "Redis")

    def run(self) -> None:
        """Step until all is processed."""
        for _ in range(100):
            self.updater.step(0)

    @property
    def expected(self) -> dict[str, int]:
        return {
            change["account"]: change["balance"]
            for change in (msgspec.json.decode(output.value) for output in self.topic)
        }


TOPIC = [balance(i, "abc"[i % 3], i * 10) for i in range(9)]


def test_a_polled_batch_is_one_transaction() -> None:
    scenario = Scenario([*TOPIC[:2]])
    scenario.run()
    assert scenario.redis.transactions == 1
    assert scenario.redis.positions == {0: Position(2, 1)}


def test_the_projection_equals_the_topic() -> None:
    scenario = Scenario(TOPIC)
    scenario.run()
    assert scenario.redis.balances[0] == scenario.expected


def test_a_write_whose_answer_was_lost_is_checked_and_not_repeated() -> None:
    scenario = Scenario(TOPIC)
    scenario.redis.faults = ["", "lost answer"]
    scenario.run()
    assert scenario.redis.balances[0] == scenario.expected
    assert scenario.redis.transactions == 5  # nine outputs in batches of two


def test_a_wiped_redis_is_filled_again_from_the_beginning() -> None:
    scenario = Scenario(TOPIC)
    scenario.run()
    scenario.redis.wipe()
    scenario.run()
    assert scenario.redis.balances[0] == scenario.expected


def test_a_partial_wipe_leaves_nothing_after_the_rebuild() -> None:
    scenario = Scenario(TOPIC)
    scenario.run()
    scenario.redis.positions.clear()
    scenario.redis.balances[0]["ghost"] = 7
    scenario.run()
    assert scenario.redis.balances[0] == scenario.expected


def test_a_recreated_topic_rebuilds_the_projection() -> None:
    scenario = Scenario(TOPIC)
    scenario.redis.positions[0] = Position(500, 499)
    scenario.source.error = RecordsMissing("ends at 9")
    scenario.run()
    assert scenario.redis.balances[0] == scenario.expected


def test_a_gap_stops_the_projection() -> None:
    scenario = Scenario(TOPIC)
    scenario.source.error = SequenceGap("ledger.balances", 0, 3, 5)
    with pytest.raises(SequenceGap):
        scenario.updater.step(0)


def test_an_outage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    scenario = Scenario(TOPIC)
    scenario.redis.faults = ["unavailable"] * 5
    with caplog.at_level("INFO"):
        scenario.run()
    assert ["works again" in record.message for record in caplog.records] == [False, True]


@given(st.lists(st.sampled_from(["", "unavailable", "lost answer", "wipe"]), max_size=20))
def test_no_failure_of_redis_loses_or_doubles_an_output(faults: list[str]) -> None:
    scenario = Scenario(TOPIC)
    for fault in faults:
        if fault == "wipe":
            scenario.redis.wipe()
        else:
            scenario.redis.faults = [fault]
        scenario.updater.step(0)
    scenario.run()
    assert scenario.redis.balances[0] == scenario.expected
    assert scenario.redis.positions == {0: Position(9, 8)}


# --- results --------------------------------------------------------------------------------


@dataclass
class FakeResults:
    batches: list[list[Received]]
    out: io.BytesIO
    printed_at_commit: list[int] = field(default_factory=list)
    is_unavailable: bool = False

    def poll(self, timeout_s: float) -> list[Received]:
        return self.batches.pop(0) if self.batches else []

    def commit(self) -> None:
        if self.is_unavailable:
            raise JournalUnavailable("no answer")
        self.printed_at_commit.append(len(self.out.getvalue()))


def test_each_result_is_one_line_and_is_printed_before_it_is_committed() -> None:
    out = io.BytesIO()
    source = FakeResults([TOPIC[:2]], out)
    ResultsPrinter(source, out).step(0)
    assert out.getvalue() == b"".join(result.value + b"\n" for result in TOPIC[:2])
    assert source.printed_at_commit == [len(out.getvalue())]


def test_a_commit_that_fails_does_not_stop_the_printing() -> None:
    out = io.BytesIO()
    source = FakeResults([TOPIC[:1], TOPIC[1:2]], out, is_unavailable=True)
    printer = ResultsPrinter(source, out)
    printer.step(0)
    printer.step(0)
    assert len(out.getvalue().splitlines()) == 2


# --- the connection -------------------------------------------------------------------------


def test_an_invalid_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="POSTJOURNAL_REDIS_URL"):
        connect(RedisAccess("http://localhost"))


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@redis:63x9/0", "redis://:hunter2/@redis:6379/0", "me:hunter2@redis"]
)
def test_an_invalid_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="POSTJOURNAL_REDIS_URL") as raised:
        connect(RedisAccess(url))
    whole = "".join(traceback.format_exception(raised.value, limit=0))
    assert "hunter2" not in whole


def test_a_password_stays_out_of_the_log() -> None:
    assert "secret" not in repr(RedisAccess("redis://me:secret@host:6379/0", "secret"))
    assert RedisAccess("redis://me:secret@host:6379/0").address == "redis://host:6379/0"
    assert RedisAccess("redis://host:6379/0").address == "redis://host:6379/0"
    assert RedisAccess("redis://host:6379/0?password=secret").address == "redis://host:6379/0"


def test_each_reason_of_an_outage_is_logged_once_until_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("Kafka", logging.getLogger("test"))
    for reason in ("refused", "no answer", "refused", "no answer"):
        outage.start(reason)
    outage.end()
    outage.start("refused")
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "Kafka: refused",
        "Kafka: no answer",
        "Kafka: refused",
    ]
