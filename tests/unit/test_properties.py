"""Properties of codecs, ledger, dedupe window, sharding and fold that hold for every input."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loadtest.workload.audit import expected_outcome
from loadtest.workload.commands import CommandSpec
from postjournal.app import Context, Rejected
from postjournal.core.fold import JournalState, Verdict
from postjournal.core.records import (
    Claim,
    Codec,
    DeadLetter,
    Entry,
    Heartbeat,
    Outcome,
    Record,
    Resign,
    UnknownRecord,
)
from postjournal.core.sharding import _murmur2, shard_of
from postjournal.core.state.dedupe import DedupeWindow
from postjournal.ledger import (
    MAX_AMOUNT,
    Accounts,
    Deposited,
    Ledger,
    LedgerCommand,
    LedgerEvent,
    Opened,
    Transferred,
    Withdrawn,
)
from postjournal.verify.journal import JournalFold, VoidReason
from postjournal.verify.rules import Findings
from tests.simulation.reference import ACCEPTED, ReferenceFold

# --- codecs -----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(0, 2**62)
amounts = st.integers(1, MAX_AMOUNT)
maps = st.dictionaries(texts, numbers, max_size=3)
events = st.one_of(
    st.builds(Opened, texts),
    st.builds(Deposited, texts, amounts, amounts),
    st.builds(Withdrawn, texts, amounts, amounts),
    st.builds(Transferred, texts, texts, amounts, amounts, amounts),
)
outcomes = st.builds(
    Outcome,
    texts,
    st.none() | texts,
    st.none() | st.lists(events, max_size=3).map(tuple),
    st.none() | texts,
    st.booleans(),
    st.none() | st.builds(DeadLetter, texts, numbers, texts, texts),
)
batches = st.lists(outcomes, max_size=4).map(tuple)
records: st.SearchStrategy[Record[LedgerEvent]] = st.one_of(
    st.builds(Claim, numbers, texts, texts, texts, st.integers(-1, 2**62)),
    st.builds(Entry, numbers, numbers, batches, maps, maps, maps, numbers, texts),
    st.builds(Heartbeat, numbers, numbers, maps, numbers),
    st.builds(Resign, numbers, st.none() | texts),
)
CODEC: Codec[LedgerEvent] = Codec(Ledger.event_type)


@given(records)
def test_a_record_survives_encoding_and_decoding(record: Record[LedgerEvent]) -> None:
    value = CODEC.encode(record)
    assert CODEC.decode(value) == record
    assert CODEC.encode(CODEC.decode(value)) == value


@given(st.binary(max_size=200) | st.from_regex(rb'\{"kind":"(claim|entry)".*\}', fullmatch=True))
def test_any_bytes_decode_as_a_record_or_as_unknown_and_raise_nothing(value: bytes) -> None:
    assert isinstance(CODEC.decode(value), UnknownRecord | Claim | Entry | Heartbeat | Resign)


@given(records, st.data())
def test_a_damaged_record_decodes_as_unknown_or_as_another_record_and_raises_nothing(
    record: Record[LedgerEvent], data: st.DataObject
) -> None:
    value = bytearray(CODEC.encode(record))
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    CODEC.decode(bytes(value))


def test_a_record_nested_too_deeply_decodes_as_unknown() -> None:
    for deep in (b'{"kind":"claim","x":' + b"[" * 100_000, b'{"kind":' * 100_000):
        assert isinstance(CODEC.decode(deep), UnknownRecord)


# --- the ledger -------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "d"])
some_amounts = st.integers(1, 50) | st.sampled_from([MAX_AMOUNT - 1, MAX_AMOUNT])
orders = st.one_of(
    st.builds(CommandSpec, st.just("open"), names),
    st.builds(CommandSpec, st.sampled_from(["deposit", "withdraw"]), names, some_amounts),
    st.builds(CommandSpec, st.just("transfer"), names, some_amounts, names),
)
COMMANDS: msgspec.json.Decoder[LedgerCommand] = msgspec.json.Decoder(LedgerCommand)


def command_of(order: CommandSpec) -> LedgerCommand:
    fields: dict[str, object] = {"type": order.type, "id": "x"}
    if order.type == "transfer":
        fields |= {"from": order.account, "to": order.to, "amount": order.amount}
    else:
        fields |= {"account": order.account, "amount": order.amount}
    return COMMANDS.decode(msgspec.json.encode(fields))


class LedgerRules(RuleBasedStateMachine):
    """Decides commands in any order and compares the state with a model."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger, self.state = Ledger(), Ledger().initial_state()
        self.model: Accounts = {}
        self.paid_in = 0

    @rule(order=orders)
    def decide(self, order: CommandSpec) -> None:
        before, command = copy.deepcopy(self.state), command_of(order)
        decided = self.ledger.decide(self.state, command, Context(0, 0, "x"))
        again = self.ledger.decide(self.state, command, Context(99, 0, "x"))
        assert decided == again, "decide depends on more than state and command"
        assert self.state == before, "decide changed the state"
        reason, balances = expected_outcome(self.model, order)
        if isinstance(decided, Rejected):
            assert decided.reason == reason
            return
        assert reason is None
        for event in decided:
            self.ledger.evolve(self.state, event)
        self.model |= balances
        self.paid_in += {"deposit": order.amount, "withdraw": -order.amount}.get(order.type, 0)

    @invariant()
    def the_state_matches_the_model(self) -> None:
        assert self.state == self.model

    @invariant()
    def money_is_conserved(self) -> None:
        assert sum(self.state.values()) == self.paid_in

    @invariant()
    def every_balance_is_within_its_bounds(self) -> None:
        assert all(0 <= balance <= MAX_AMOUNT for balance in self.state.values())

    @invariant()
    def a_dump_loads_as_the_same_state(self) -> None:
        dump = self.ledger.dump(self.state)
        assert self.ledger.load(self.ledger.schema_version, dump) == self.state


TestLedgerRules = LedgerRules.TestCase


@given(st.dictionaries(texts, amounts, max_size=3), st.lists(events, max_size=8))
def test_evolve_accepts_any_event_in_any_state(
    state: Accounts, happened: list[LedgerEvent]
) -> None:
    for event in happened:
        Ledger().evolve(state, event)


# --- the dedupe window ------------------------------------------------------------------------


class WindowRules(RuleBasedStateMachine):
    """Compares the window with a list of all outcomes."""

    def __init__(self) -> None:
        super().__init__()
        self.window: DedupeWindow[Any] = DedupeWindow(5)
        self.all: list[str] = []

    @property
    def remembered(self) -> list[str]:
        return self.all[-5:]

    @rule(command_id=st.integers(0, 9).map(str))
    def decide(self, command_id: str) -> None:
        first = self.window.get(command_id)
        assert (first is not None) == (command_id in self.remembered)
        if first is None:
            self.window.add(Outcome(command_id, type=str(len(self.all))))
            self.all.append(command_id)
        else:
            assert first.type == str(len(self.all) - 1 - self.all[::-1].index(command_id))

    @rule(count=st.integers(1, 12))
    def apply_many(self, count: int) -> None:
        """As a standby applies an entry: its ids were not in the window when they were decided."""
        ids: list[str] = []
        for number in range(count):
            command_id = str((len(self.all) + number * 7) % 10)
            if command_id not in (self.all + ids)[-5:]:
                ids.append(command_id)
        batch: list[Outcome[Any]] = [
            Outcome(command_id, type=str(len(self.all) + n)) for n, command_id in enumerate(ids)
        ]
        self.window.add_all(batch)
        self.all += ids

    @invariant()
    def it_holds_the_last_outcomes_and_no_others(self) -> None:
        assert len(self.window) == len(self.remembered)
        known = {n for n in map(str, range(10)) if self.window.get(n) is not None}
        assert known == set(self.remembered)

    @precondition(lambda self: self.all)
    @rule()
    def the_last_is_known(self) -> None:
        assert self.window.get(self.all[-1]) is not None


TestWindowRules = WindowRules.TestCase


# --- sharding ---------------------------------------------------------------------------------


@given(st.binary(max_size=40), st.integers(1, 100))
def test_every_key_has_one_shard(key: bytes, shards: int) -> None:
    assert shard_of(key, shards) == shard_of(bytes(key), shards)
    assert 0 <= shard_of(key, shards) < shards
    assert shard_of(key, 1) == 0


@given(st.binary(max_size=40))
def test_murmur2_matches_a_literal_translation_of_kafkas_java(key: bytes) -> None:
    assert ctypes.c_int32(_murmur2(key)).value == java_murmur2(key)


def java_murmur2(data: bytes) -> int:
    """org.apache.kafka.common.utils.Utils.murmur2 of Kafka 4, line by line, in Java's ints."""

    def int32(value: int) -> int:
        return ctypes.c_int32(value).value

    def unsigned_shift(value: int, by: int) -> int:
        return (value & 0xFFFFFFFF) >> by

    def byte(index: int) -> int:
        return data[index] & 0xFF

    length, m = len(data), 0x5BD1E995
    h = int32(0x9747B28C ^ length)
    for i in range(length // 4):
        k = int32(
            byte(4 * i) | byte(4 * i + 1) << 8 | byte(4 * i + 2) << 16 | byte(4 * i + 3) << 24
        )
        k = int32(k * m)
        k ^= int32(unsigned_shift(k, 24))
        k = int32(k * m)
        h = int32(h * m) ^ k
    tail, left = length & ~3, length % 4
    if left == 3:
        h ^= byte(tail + 2) << 16
    if left >= 2:
        h ^= byte(tail + 1) << 8
    if left >= 1:
        h = int32((h ^ byte(tail)) * m)
    h ^= int32(unsigned_shift(h, 13))
    h = int32(h * m)
    return int32(h ^ int32(unsigned_shift(h, 15)))


# --- three folds ------------------------------------------------------------------------------

Step = Callable[[JournalState], Record[Any]]


def likely(good: Callable[[JournalState], int], low: int = 0) -> st.SearchStrategy[Any]:
    """Mostly a value that is accepted, else one near it."""
    near = st.integers(-2, 2).filter(bool)
    off = st.one_of(st.just(0), st.just(0), st.just(0), near)
    return off.map(lambda by: lambda state: max(good(state) + by, low))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    epoch, seq = draw(likely(lambda s: s.epoch)), draw(likely(lambda s: s.next_seq))
    kind = draw(st.sampled_from(["claim", "entry", "entry", "entry", "heartbeat", "resign"]))
    marks = draw(st.dictionaries(st.sampled_from(["results", "balances"]), st.integers(0, 9)))
    if kind == "claim":
        seen = draw(likely(lambda s: s.alive_at, -1))
        return lambda s: Claim(epoch(s) + 1, "r", "i", "h:1", seen(s))
    if kind == "heartbeat":
        return lambda s: Heartbeat(epoch(s), seq(s), marks, 1)
    if kind == "resign":
        return lambda s: Resign(epoch(s))
    size = draw(st.integers(0, 3))
    batch: tuple[Outcome[Any], ...] = tuple(Outcome(str(n), rejected="no") for n in range(size))
    return lambda s: Entry(epoch(s), seq(s), batch, {}, {}, marks, 1, s.digest)


@given(st.lists(steps(), max_size=40))
def test_the_folds_of_engine_auditor_and_simulation_agree(drawn: list[Step]) -> None:
    """All three implement "The fold" in docs/protocol.md."""
    engine, reference = JournalState(), ReferenceFold()
    auditor = JournalFold("ledger.journal", CODEC, Findings(0))
    for offset, step in enumerate(drawn):
        record = step(engine)
        value = CODEC.encode(record)
        accepted = engine.fold(offset, record, value) is Verdict.ACCEPTED
        assert accepted == bool(auditor.fold(offset, record, value))
        parsed = msgspec.json.decode(value)
        assert accepted == (reference.take(offset, value, parsed) == ACCEPTED)
        assert reference.point()[:6] == (
            *(engine.epoch, engine.leader, engine.alive_at),
            *(engine.resigned, engine.next_seq, engine.digest),
        )
        assert (auditor.epoch, auditor.next_seq) == (engine.epoch, engine.next_seq)
        assert (auditor.digest, auditor.alive_at) == (engine.digest, engine.alive_at)
    assert VoidReason.DIGEST_MISMATCH.value not in auditor.void_reasons
