"""Deciding and applying result in the same state; repeats and invalid commands are handled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.config.settings import KafkaAccess
from postjournal.core.application import Application, Command, Context, Event, Output, Rejected
from postjournal.core.errors import ApplicationFaulty
from postjournal.core.records import Codec, Entry, Outcome, SourceRecord
from postjournal.core.sharding import ShardPlace, shard_of
from postjournal.core.state.round_trip import EventRoundTrip
from postjournal.core.state.state_machine import DEADLETTER, FAILED, INVALID, StateMachine
from postjournal.ledger import Ledger
from postjournal.verify.replay import Replay

FEED = "ledger.feed"

MESSAGE_BYTES = kafka_settings.journal_producer(KafkaAccess(""))["message.max.bytes"]


def records(*commands: object, start: int = 0) -> list[SourceRecord]:
    values = [c if isinstance(c, bytes) else msgspec.json.encode(c) for c in commands]
    return [(start + n, b"main", value) for n, value in enumerate(values)]


def machine(
    window: int = 100, shards: int = 1, application: Any = None
) -> StateMachine[Any, Any, Any]:
    return StateMachine(application or Ledger(), ShardPlace(0, shards), window)


def entry_of(decided: StateMachine[Any, Any, Any], batch: tuple[Outcome[Any], ...]) -> Entry[Any]:
    return Entry(1, 0, batch, dict(decided.sources), decided.sink_ends(), {}, 7, "0" * 32)


OPEN = {"type": "open", "id": "1", "account": "a"}
DEPOSIT = {"type": "deposit", "id": "2", "account": "a", "amount": 5}


def outputs(of: StateMachine[Any, Any, Any], sink: str) -> list[dict[str, Any]]:
    chunks = of.outboxes[sink].between(0, 10**9)
    return [msgspec.json.decode(value) for chunk in chunks for value in chunk.values]


def test_applying_an_entry_gives_the_same_state_as_deciding_it() -> None:
    leader, standby = machine(), machine()
    poison = [b"not JSON", {"type": "nonsense", "id": "9"}, {**DEPOSIT, "id": "3", "amount": 0}]
    batch = leader.decide([(FEED, records(OPEN, DEPOSIT, DEPOSIT, *poison))], time=7)
    standby.apply(entry_of(leader, batch))
    assert standby.state == leader.state == {"a": 5}
    assert standby.sources == leader.sources == {FEED: 6}
    for sink in ("results", "balances", DEADLETTER):
        assert outputs(standby, sink) == outputs(leader, sink)


def test_outputs_are_numbered_densely_from_zero() -> None:
    decided = machine()
    decided.decide([(FEED, records(OPEN, DEPOSIT))], time=0)
    decided.decide([(FEED, records({**DEPOSIT, "id": "3"}, start=2))], time=0)
    assert [result["seq"] for result in outputs(decided, "results")] == [0, 1, 2]


def test_a_repeat_has_no_effect_and_gets_the_first_result() -> None:
    decided = machine()
    changed = {**DEPOSIT, "amount": 999}  # the same id; the first one counts
    batch = decided.decide([(FEED, records(OPEN, DEPOSIT, {**DEPOSIT, "id": "3"}, changed))], 0)
    first, again = outputs(decided, "results")[1], outputs(decided, "results")[3]
    assert decided.state == {"a": 10}
    assert again["replayed"]
    assert (again["id"], again["balances"], again["status"]) == (first["id"], {"a": 5}, "accepted")
    assert msgspec.json.decode(msgspec.json.encode(batch[3])) == {"id": "2", "replayed": True}
    assert len(outputs(decided, "balances")) == 3


def test_rejections_are_remembered_too() -> None:
    decided = machine()
    batch = decided.decide([(FEED, records(DEPOSIT, OPEN, DEPOSIT))], 0)
    assert batch[0].rejected == "unknown_account"
    assert batch[2].replayed
    assert decided.state == {"a": 0}


def test_an_id_that_has_left_the_window_is_decided_again() -> None:
    decided = machine(window=2)
    more = [{**DEPOSIT, "id": str(n)} for n in range(3, 5)]
    decided.decide([(FEED, records(OPEN, DEPOSIT, *more, DEPOSIT))], 0)
    assert decided.state == {"a": 20}


def test_an_invalid_command_is_rejected_and_goes_to_the_dead_letters() -> None:
    decided = machine()
    bad = [b"\xff\xfe", b"", b"[]", {"id": "x"}, {"type": "open", "id": "y" * 200, "account": "a"}]
    batch = decided.decide([(FEED, records(*bad))], 0)
    assert {item.rejected for item in batch} == {"invalid"}
    letters = outputs(decided, DEADLETTER)
    assert [letter["offset"] for letter in letters] == [0, 1, 2, 3, 4]
    assert [letter["id"] for letter in letters] == [
        *(f"{FEED}/0@0", f"{FEED}/0@1", f"{FEED}/0@2", "x", f"{FEED}/0@4")
    ]


def test_a_record_without_a_value_is_an_invalid_command() -> None:
    decided = machine()
    batch = decided.decide([(FEED, [(0, None, None)])], 0)
    assert batch[0].rejected == "invalid"


def test_a_key_of_another_shard_is_refused() -> None:
    decided = machine(shards=2)
    keys = [f"k{n}".encode() for n in range(20)]
    rows: list[SourceRecord] = [
        (n, key, msgspec.json.encode({**OPEN, "id": str(n), "account": key.decode()}))
        for n, key in enumerate(keys)
    ]
    batch = decided.decide([(FEED, rows)], 0)
    expected = [None if shard_of(key, 2) == 0 else "wrong_shard" for key in keys]
    assert [item.rejected for item in batch] == expected
    assert None in expected
    assert "wrong_shard" in expected


class Faulty(Ledger):
    """Fails in `decide` at amount 13, in `evolve` at amount 14."""

    def decide(self, state: Any, command: Any, context: Context) -> Sequence[Any] | Rejected:
        if getattr(command, "amount", 0) == 13:
            raise RuntimeError("thirteen")
        return super().decide(state, command, context)

    def evolve(self, state: Any, event: Any) -> None:
        if getattr(event, "amount", 0) == 14:
            raise RuntimeError("fourteen")
        super().evolve(state, event)


def test_a_decision_that_raises_rejects_only_its_command() -> None:
    decided = machine(application=Faulty())
    bad = {**DEPOSIT, "amount": 13}
    batch = decided.decide([(FEED, records(OPEN, bad, {**DEPOSIT, "id": "3"}))], 0)
    assert [item.rejected for item in batch] == [None, "failed", None]
    [failure] = decided.take_failures()
    assert (failure.id, failure.topic, failure.offset) == (batch[1].id, FEED, 1)
    assert failure.error.__traceback__ is not None
    assert decided.take_failures() == []
    assert outputs(decided, DEADLETTER)[0]["error"] == "RuntimeError: thirteen"
    assert decided.state == {"a": 5}


@pytest.mark.parametrize("name", ["evolve", "sink"])
def test_a_lack_of_memory_does_not_halt_the_shard(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the engine, and the next one may have the memory."""

    def exhaust(*_: object) -> None:
        raise MemoryError

    decided = machine()
    if name == "evolve":
        monkeypatch.setattr(decided, "_evolve", exhaust)
    else:
        monkeypatch.setitem(decided._sinks, "results", exhaust)
    with pytest.raises(MemoryError):
        decided.decide([(FEED, records(OPEN))], 0)


def test_an_evolve_that_raises_halts_the_shard() -> None:
    decided = machine(application=Faulty())
    with pytest.raises(ApplicationFaulty, match="evolve"):
        decided.decide([(FEED, records(OPEN, {**DEPOSIT, "amount": 14}))], 0)


def test_a_standby_whose_sinks_differ_from_the_leaders_halts() -> None:
    leader, standby = machine(), machine()
    batch = leader.decide([(FEED, records(OPEN))], 0)
    entry = entry_of(leader, batch)
    standby.apply(msgspec.structs.replace(entry, sinks={**entry.sinks, "results": 7}))
    with pytest.raises(ApplicationFaulty, match="sink results"):
        outputs(standby, "results")
    with pytest.raises(ApplicationFaulty, match="sink results"):
        standby.apply(msgspec.structs.replace(entry, batch=(), sinks={"results": 1}))


class _Anything(Command, tag="open", frozen=True, gc=False, kw_only=True):
    pass


class Undecided(Ledger):
    """Returns something that is neither events nor a rejection."""

    command_type: ClassVar[Any] = _Anything

    def decide(self, state: Any, command: Any, context: Context) -> Any:
        return None


def test_a_decision_of_an_unknown_type_rejects_its_command() -> None:
    decided = machine(application=Undecided())
    assert decided.decide([(FEED, records(OPEN))], 0)[0].rejected == "failed"


class Verbatim(Output):
    text: msgspec.Raw


class Quoting(Ledger):
    """Its output contains raw JSON, which may have line breaks."""

    @property
    def sinks(self) -> Any:
        return {"quotes": lambda outcome, context: [Verbatim(msgspec.Raw(b'{"a":\n1}'))]}


def test_an_output_may_hold_raw_json_with_line_breaks() -> None:
    decided = machine(application=Quoting())
    decided.decide([(FEED, records(OPEN, DEPOSIT))], 0)
    assert outputs(decided, "quotes") == [
        {"seq": 0, "text": {"a": 1}},
        {"seq": 1, "text": {"a": 1}},
    ]


class WithAudit(Ledger):
    """A later version of the ledger, with another sink."""

    @property
    def sinks(self) -> Any:
        return {**super().sinks, "audit": lambda outcome, _: [Audited(id=outcome.id)]}


class Audited(Output, gc=False):
    id: str


def test_a_new_sink_begins_with_the_first_leader_that_has_it() -> None:
    old, new = machine(), machine(application=WithAudit())
    new.apply(entry_of(old, old.decide([(FEED, records(OPEN))], 7)))
    assert (new.outboxes["audit"].next_seq, new.outboxes["results"].next_seq) == (0, 1)
    batch = new.decide([(FEED, records(DEPOSIT, start=1))], 8)
    assert [output["seq"] for output in outputs(new, "audit")] == [0]
    old.apply(entry_of(new, batch))  # a version without the sink
    assert old.state == new.state


# --- events that change in the journal ----------------------------------------------------------


class Noted(Event, tag="noted", frozen=True, gc=False):
    amount: int
    rate: float = 0.0
    doc: Any = None
    names: frozenset[str] = frozenset()
    raw: msgspec.Raw = msgspec.Raw(b"0")


class Note(Command, tag="note", frozen=True, gc=False, kw_only=True):
    what: str


def nested(levels: int) -> list[Any]:
    doc: list[Any] = []
    for _ in range(levels - 1):
        doc = [doc]
    return doc


NOTES: dict[str, Callable[[], Any]] = {
    "right": lambda: [Noted(1, 0.5)],
    "float for int": lambda: [Noted(1.05)],  # type: ignore[arg-type]
    "whole float for int": lambda: [Noted(2.0)],  # type: ignore[arg-type]
    "int for float": lambda: [Noted(1, 2)],
    "not a number": lambda: [Noted(1, float("nan"))],
    "deep": lambda: [Noted(1, doc=nested(90))],
    "too deep": lambda: [Noted(1, doc=nested(101))],
    "far too deep": lambda: [Noted(1, doc=nested(5_000))],
    "brackets in strings": lambda: [Noted(1, doc="[" * 500)],
    "large": lambda: [Noted(1, doc="x" * 1_900_000)],
    "too large": lambda: [Noted(1, doc="x" * 2_000_000)],
    "deep raw": lambda: [Noted(1, raw=msgspec.Raw(b"[" * 90 + b"]" * 90))],
    "far too deep raw": lambda: [Noted(1, raw=msgspec.Raw(b"[" * 2_000 + b"]" * 2_000))],
    "strange raw": lambda: [Noted(1, raw=msgspec.Raw(b'{"x":1e999,"y":"\xff"}'))],
    "unordered": lambda: [Noted(1, doc=(n, n), names=frozenset("abcdefgh")) for n in range(40)],
    "not JSON": lambda: [Noted(1, doc=object())],
    "surrogate": lambda: [Noted(1, doc="\ud800")],
    "another type": lambda: ["noted"],
    "sets": lambda: [Noted(1, names=frozenset(map(str, range(n)))) for n in range(200)],
    "reason": lambda: Rejected("not_today"),
    "number as reason": lambda: Rejected(7),  # type: ignore[arg-type]
    "long reason": lambda: Rejected("x" * 65),
    "unprintable reason": lambda: Rejected("\ud800"),
}
UNCHANGED = {
    *("right", "deep", "deep raw", "strange raw", "unordered", "brackets in strings", "large"),
    *("sets", "reason"),
}


class Notes(Application[list[Any], Note, Noted]):
    command_type: ClassVar[Any] = Note
    event_type: ClassVar[Any] = Noted

    def initial_state(self) -> list[Any]:
        return []

    def decide(self, state: list[Any], command: Note, context: Context) -> Any:
        return NOTES[command.what]()

    def evolve(self, state: list[Any], event: Noted) -> None:
        state.append(event.amount)

    def query(self, state: list[Any], query: Mapping[str, str]) -> object:
        return state


def note(what: str, number: int = 0) -> dict[str, str]:
    return {"type": "note", "id": f"{what}-{number}", "what": what}


@pytest.mark.parametrize("what", NOTES)
def test_events_that_change_in_the_journal_reject_their_command(what: str) -> None:
    """Otherwise such a command is acknowledged, and no replica can read the journal."""
    leader, standby = machine(application=Notes()), machine(application=Notes())
    (outcome,) = batch = leader.decide([(FEED, records(note(what)))], time=7)
    assert (outcome.rejected == FAILED) == (what not in UNCHANGED)
    codec: Codec[Noted] = Codec(Noted)
    entry = codec.decode(codec.encode(entry_of(leader, batch)))
    assert isinstance(entry, Entry)
    assert entry.batch == batch
    standby.apply(entry)
    assert standby.state == leader.state
    assert outputs(standby, DEADLETTER) == outputs(leader, DEADLETTER)
    replay: Replay[Any, Any, Any] = Replay(Notes(), 0, 1, 100)
    row = (0, b"main", msgspec.json.encode(note(what)))
    expected = replay.expected(FEED, row, replay.read(FEED, row), Context(7, 0))
    assert replay.same(entry.batch[0], expected), "the auditor has the same outcome"
    assert replay.same(
        msgspec.structs.replace(outcome, rejected=FAILED, events=None), expected
    ) == (what not in UNCHANGED)


class Bumped(Event, tag="bumped", frozen=True, gc=False):
    amount: int

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "amount", self.amount + 1)


class Wide(Event, tag="wide", frozen=True, gc=False):
    rates: list[float]


@pytest.mark.parametrize("event", [Bumped(1), Wide([0] * 3)])
def test_events_that_encode_differently_once_decoded_are_refused(event: Event) -> None:
    """A standby would have other events, or an entry would be larger than calculated."""
    with pytest.raises(ValueError, match="events change in the journal"):
        EventRoundTrip[Event](type(event)).round_trip([event])


class Pages(Application[list[Any], Note, Noted]):
    command_type: ClassVar[Any] = Note
    event_type: ClassVar[Any] = Noted

    def initial_state(self) -> list[Any]:
        return []

    def decide(self, state: list[Any], command: Note, context: Context) -> Any:
        return [Noted(1, doc=state)]

    def evolve(self, state: list[Any], event: Noted) -> None:
        state.append(event.doc)


def test_an_event_shares_nothing_with_the_leaders_state() -> None:
    """Otherwise the leader's list would contain itself, and a standby's its former value."""
    leader, standby = machine(application=Pages()), machine(application=Pages())
    batch = leader.decide([(FEED, records(note("a"), note("b"), note("c")))], time=7)
    codec: Codec[Noted] = Codec(Noted)
    entry = codec.decode(codec.encode(entry_of(leader, batch)))
    assert isinstance(entry, Entry)
    standby.apply(entry)
    assert leader.state == standby.state == [[], [[]], [[], [[]]]]


def test_an_entry_is_never_larger_than_a_kafka_message() -> None:
    """A larger entry makes every leader fail, one after the other."""
    decided = machine(application=Notes())
    commands = records(*[note("large", n) for n in range(9)])
    runs = [(FEED, commands[:2]), ("ledger.commands", commands[2:])]
    batch = decided.decide(runs, 0)
    assert [outcome.id for outcome in batch] == ["large-0", "large-1", "large-2"]
    assert decided.sources == {FEED: 2, "ledger.commands": 3}
    assert len(msgspec.json.encode(entry_of(decided, batch))) < MESSAGE_BYTES
    wild = [b"\x00" * 9_000 + b"%d" % n for n in range(2_000)]
    batch = decided.decide([(FEED, records(*wild, start=9))], 0)
    assert 200 < len(batch) < 2_000
    assert len(msgspec.json.encode(entry_of(decided, batch))) < MESSAGE_BYTES


@pytest.mark.parametrize("levels", [1_100, 100_000])
def test_a_command_nested_too_deeply_is_invalid(levels: int) -> None:
    """Otherwise it halts every replica of its shard, one after the other."""
    value = msgspec.json.encode(DEPOSIT)[:-1] + b',"z":' + b"[" * levels + b"]" * levels + b"}"
    (outcome,) = machine().decide([(FEED, records(value))], 0)
    assert outcome.rejected == INVALID
    assert outcome.dead_letter is not None


def test_a_dead_letter_has_a_bounded_size() -> None:
    value = b'{"type":"' + b"x" * 500_000 + b'","id":"1"}'
    (outcome,) = machine().decide([(FEED, records(value))], 0)
    assert outcome.dead_letter is not None
    assert len(outcome.dead_letter.error) <= 1_024
    assert len(outcome.dead_letter.value) <= 1_024


def test_an_answer_does_not_change_with_the_state() -> None:
    """Otherwise a pending answer would reveal decisions that are not stable yet."""
    queried = machine(application=Notes())
    answer, error = queried.query({})
    queried.decide([(FEED, records(note("right")))], 0)
    assert (answer, error) == (msgspec.Raw(b"[]"), None)
    queried.state.append(object())
    answer, error = queried.query({})
    assert answer is None
    assert error is not None
    assert error.startswith("failed: TypeError")
