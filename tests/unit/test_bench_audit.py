"""The benches' audit must find every kind of violation."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadtest.workload.audit import Auditor, Findings, expected_outcome
from loadtest.workload.commands import CommandSpec, SentCommands, Workload
from loadtest.workload.preload import Transfers

OPEN_A, OPEN_B = CommandSpec("open", "a"), CommandSpec("open", "b")
DEPOSIT = CommandSpec("deposit", "a", 100)
TRANSFER = CommandSpec("transfer", "a", 30, "b")
WITHDRAW = CommandSpec("withdraw", "b", 10)
SPECS = (OPEN_A, OPEN_B, DEPOSIT, TRANSFER, WITHDRAW)
RIGHT = (
    {"balances": {"a": 0}},
    {"balances": {"b": 0}},
    {"balances": {"a": 100}},
    {"balances": {"a": 70, "b": 30}},
    {"balances": {"b": 20}},
)


def sent_commands() -> SentCommands:
    sent = SentCommands("run")
    for spec in SPECS:
        sent.add(spec)
    return sent


def result(position: int, seq: int | None = None, **fields: Any) -> bytes:
    record = {
        "seq": position if seq is None else seq,
        "id": f"run-{position}",
        "type": SPECS[position].type,
        "status": "accepted",
        "reason": None,
        "replayed": False,
        **RIGHT[position],
        **fields,
    }
    return msgspec.json.encode(record)


def audit(*values: bytes, sent: SentCommands | None = None) -> Findings:
    auditor = Auditor(sent or sent_commands())
    for value in values:
        auditor.add(0, value)
    return auditor.findings()


def test_a_run_in_order_is_found_right() -> None:
    findings = audit(*(result(position) for position in range(5)))
    assert findings.ok
    assert (findings.sent, findings.outcomes, findings.accepted) == (5, 5, 5)
    assert findings.balance_sum == findings.expected_sum == 90
    assert findings.examples == []


def test_a_lost_command_is_found() -> None:
    findings = audit(*(result(position) for position in range(4)))
    assert not findings.ok
    assert findings.lost == 1
    assert "command 4" in findings.examples[0]


def test_a_command_that_kafka_never_confirmed_may_have_no_outcome() -> None:
    sent = sent_commands()
    sent.mark_unacknowledged(4)
    findings = audit(*(result(position) for position in range(4)), sent=sent)
    assert findings.ok
    assert findings.unacknowledged == 1


def test_a_command_applied_twice_is_found() -> None:
    again = result(2, seq=5, balances={"a": 170})
    findings = audit(*(result(position) for position in range(5)), again)
    assert not findings.ok
    assert (findings.doubled, findings.outcomes) == (1, 5)


def test_a_second_outcome_is_found_even_if_its_balances_hide_it() -> None:
    findings = audit(*(result(position) for position in range(5)), result(0, seq=5))
    assert findings.doubled == 1


def test_a_gap_in_the_sequence_is_found() -> None:
    moved = [result(position, seq=position + 2 * (position > 2)) for position in range(5)]
    findings = audit(*moved)
    assert not findings.ok
    assert (findings.gaps, findings.lost) == (2, 0)


def test_a_first_sequence_that_is_not_0_is_a_gap_only_when_the_topic_was_empty() -> None:
    later = Auditor(sent_commands(), from_start=False)
    for position in range(5):
        later.add(0, result(position, seq=position + 100))
    assert later.findings().ok
    assert audit(*(result(position, seq=position + 100) for position in range(5))).gaps == 100


def test_a_record_published_twice_is_dropped_as_subscribers_do() -> None:
    findings = audit(*(result(position) for position in range(5)), result(3), result(4))
    assert findings.ok
    assert (findings.repeats, findings.doubled) == (2, 0)


def test_another_record_under_a_sequence_seen_before_is_found() -> None:
    findings = audit(*(result(position) for position in range(5)), result(3, seq=2))
    assert not findings.ok
    assert findings.conflicts == 1


def test_a_wrong_balance_is_found() -> None:
    values = [result(position) for position in range(4)]
    findings = audit(*values, result(4, balances={"b": 21}))
    assert not findings.ok
    assert findings.wrong == 1
    assert (findings.balance_sum, findings.expected_sum) == (91, 90)


def test_money_made_by_a_transfer_is_found() -> None:
    findings = audit(*(result(position) for position in range(3)), result(3, balances={"b": 30}))
    assert findings.wrong == 1
    assert findings.balance_sum == 130


def test_a_rejection_that_the_rules_do_not_give_is_found() -> None:
    refused = result(4, status="rejected", reason="insufficient_funds", balances={})
    assert audit(*(result(position) for position in range(4)), refused).wrong == 1


def test_the_answer_to_a_repeated_command_is_not_a_second_outcome() -> None:
    replayed = result(2, seq=5, replayed=True)
    findings = audit(*(result(position) for position in range(5)), replayed)
    assert findings.ok
    assert (findings.replayed, findings.doubled) == (1, 0)


def test_an_answer_marked_replayed_alone_is_not_an_outcome() -> None:
    values = [result(position, replayed=position == 4) for position in range(5)]
    assert audit(*values).lost == 1


def test_commands_of_other_clients_count_for_the_sequence_only() -> None:
    values = [result(0, seq=0, id="other-0"), *(result(p, seq=p + 1) for p in range(5))]
    findings = audit(*values)
    assert findings.ok
    assert findings.outcomes == 5


def test_each_partition_has_its_own_sequence() -> None:
    auditor = Auditor(sent_commands())
    for position in range(5):
        auditor.add(position % 2, result(position, seq=position // 2))
    assert auditor.findings().ok


def test_first_outcomes_are_returned_as_positions() -> None:
    auditor = Auditor(sent_commands())
    assert auditor.add(0, result(0)) == 0
    assert auditor.add(0, result(0)) is None
    assert not auditor.is_complete
    assert [auditor.add(0, result(position)) for position in range(1, 5)] == [1, 2, 3, 4]
    assert auditor.is_complete


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (CommandSpec("open", "a"), "account_exists"),
        (CommandSpec("deposit", "unknown", 1), "unknown_account"),
        (CommandSpec("deposit", "a", 0), "invalid"),
        (CommandSpec("deposit", "a", 2**53), "invalid"),
        (CommandSpec("deposit", "a", 2**53 - 1), "invalid"),
        (CommandSpec("withdraw", "a", 101), "insufficient_funds"),
        (CommandSpec("transfer", "a", 1, "a"), "same_account"),
        (CommandSpec("transfer", "a", 1, "unknown"), "unknown_account"),
        (CommandSpec("transfer", "a", 101, "b"), "insufficient_funds"),
    ],
)
def test_the_audits_rules_reject_what_the_contract_rejects(spec: CommandSpec, reason: str) -> None:
    assert expected_outcome({"a": 100, "b": 0}, spec) == (reason, {})


def test_ids_of_other_runs_have_no_position() -> None:
    sent = sent_commands()
    assert sent.position("run-4") == 4
    assert [sent.position(text) for text in ("run-5", "other-1", "run-", "run--1")] == [None] * 4


def test_a_workload_is_the_same_for_the_same_seed() -> None:
    first, second = Workload("run", seed=7, ledgers=3), Workload("run", seed=7, ledgers=3)
    assert [first.next() for _ in range(500)] == [second.next() for _ in range(500)]
    assert first.opening() == second.opening()


def test_preloaded_transfers_are_all_valid_and_encoded_as_the_audit_expects() -> None:
    transfers = Transfers(accounts=3, transfers=50, seed=1, run="run")
    balances: dict[str, int] = {}
    for position, value in enumerate(transfers.values()):
        spec = transfers.spec(position)
        reason, changed = expected_outcome(balances, spec)
        assert reason is None
        balances |= changed
        command = msgspec.json.decode(value)
        assert (command["id"], command["type"]) == (f"run-{position}", spec.type)
        assert command.get("from", command.get("account")) == spec.account
        assert (command.get("to", ""), command.get("amount", 0)) == (spec.to, spec.amount)
    assert transfers.position("run-55") == 55
    assert len(transfers) == 56
    assert sum(balances.values()) == 3 * 50 * 100
