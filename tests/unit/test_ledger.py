"""The sample application's rules."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postjournal.app import Context, Rejected
from postjournal.ledger import MAX_AMOUNT, Ledger, LedgerCommand, Transfer

LEDGER = Ledger()
CONTEXT = Context(time=0, shard=0)
DECODER: msgspec.json.Decoder[LedgerCommand] = msgspec.json.Decoder(LedgerCommand)


def decide(state: dict[str, int], **fields: object) -> object:
    command = DECODER.decode(msgspec.json.encode({"id": "1", **fields}))
    decided = LEDGER.decide(state, command, CONTEXT)
    if isinstance(decided, Rejected):
        return decided.reason
    for event in decided:
        LEDGER.evolve(state, event)
    return "accepted"


def test_an_account_is_opened_once() -> None:
    state: dict[str, int] = {}
    assert decide(state, type="open", account="a") == "accepted"
    assert decide(state, type="open", account="a") == "account_exists"
    assert state == {"a": 0}


def test_a_transfer_moves_money_and_creates_none() -> None:
    state = {"a": 10, "b": 1}
    assert decide(state, type="transfer", **{"from": "a"}, to="b", amount=4) == "accepted"
    assert state == {"a": 6, "b": 5}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "deposit", "account": "x", "amount": 1}, "unknown_account"),
        ({"type": "withdraw", "account": "x", "amount": 1}, "unknown_account"),
        ({"type": "withdraw", "account": "a", "amount": 11}, "insufficient_funds"),
        ({"type": "transfer", "from": "a", "to": "a", "amount": 1}, "same_account"),
        ({"type": "transfer", "from": "a", "to": "x", "amount": 1}, "unknown_account"),
        ({"type": "transfer", "from": "x", "to": "a", "amount": 1}, "unknown_account"),
        ({"type": "transfer", "from": "a", "to": "b", "amount": 11}, "insufficient_funds"),
        ({"type": "deposit", "account": "a", "amount": MAX_AMOUNT}, "invalid"),
    ],
)
def test_a_forbidden_command_is_rejected_and_changes_nothing(
    fields: dict[str, object], reason: str
) -> None:
    state = {"a": 10, "b": 0}
    assert decide(state, **fields) == reason
    assert state == {"a": 10, "b": 0}


@pytest.mark.parametrize("amount", [0, -1, 1.5, MAX_AMOUNT + 1, 10**30, "5", None, True])
def test_an_amount_that_is_not_a_positive_whole_number_is_not_decoded(amount: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        decide({"a": 0}, type="deposit", account="a", amount=amount)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.integers(1, 50)),
        max_size=60,
    )
)
def test_money_is_conserved_by_any_transfers(moves: list[tuple[str, str, int]]) -> None:
    state = {"a": 100, "b": 20, "c": 0}
    for source, to, amount in moves:
        command = Transfer(id="1", source=source, to=to, amount=amount)
        decided = LEDGER.decide(state, command, CONTEXT)
        if not isinstance(decided, Rejected):
            for event in decided:
                LEDGER.evolve(state, event)
    assert sum(state.values()) == 120
    assert all(balance >= 0 for balance in state.values())


def test_a_dump_loads_to_the_same_state() -> None:
    state = {"a": 1, "b": 2}
    assert LEDGER.load(1, LEDGER.dump(state)) == state
