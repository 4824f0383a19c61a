"""The gateway against its OpenAPI document: requests that match the document, and others.

The real WSGI application runs on the real state machines, without Kafka.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec
import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from schemathesis import GenerationMode, Response

from postjournal.core.records import SourceRecord
from postjournal.core.sharding import ShardPlace, shard_of
from postjournal.core.state.state_machine import StateMachine
from postjournal.ledger import Ledger
from services.producer import parsing
from services.producer.app import Gateway, make_app
from services.producer.metrics import Metrics
from services.producer.openapi import document
from services.producer.ports import Appended, Expectation, Headers, Outcome, Record
from tests.support.gateway import FakeReplicas

SHARDS = 2
TOPIC = "ledger.commands"
Json = dict[str, Any]
Case: TypeAlias = Any
"""A schemathesis.Case; its body is any JSON."""


class System:
    """The gateway's log, results and replicas: commands are decided when they are appended."""

    unavailable_reason = None
    is_offered = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.machines = [
            StateMachine[Any, Any, Any](Ledger(), ShardPlace(shard, SHARDS), 100_000)
            for shard in range(SHARDS)
        ]
        self.appended = [0] * SHARDS
        self.results: dict[str, bytes] = {}
        self.first: dict[tuple[int, str], Json] = {}
        self.paid_in = 0

    def append(self, records: Sequence[Record], headers: Headers = ()) -> list[Outcome]:
        offsets = {
            shard: iter(
                self._decide(shard, [record for record in records if record.shard == shard])
            )
            for shard in range(SHARDS)
        }
        return [Appended(next(offsets[record.shard])) for record in records]

    def _decide(self, shard: int, records: Sequence[Record]) -> range:
        """Decide the records of one shard; returns their offsets."""
        first = self.appended[shard]
        self.appended[shard] += len(records)
        machine = self.machines[shard]
        results = machine.outboxes["results"]
        seen = results.next_seq
        rows: list[SourceRecord] = [
            (first + n, record.key, record.value) for n, record in enumerate(records)
        ]
        while rows:
            rows = rows[len(machine.decide([(TOPIC, rows)], time=first)) :]
        values = [v for chunk in results.between(seen, results.next_seq) for v in chunk.values]
        for record, result in zip(records, values, strict=True):
            self._check(shard, msgspec.json.decode(record.value), result)
        return range(first, first + len(records))

    def _check(self, shard: int, command: Json, value: bytes) -> None:
        """Assert that a repeat has the first outcome; count the money paid in."""
        result = msgspec.json.decode(value)
        self.results[command["id"]] = value
        first = self.first.setdefault((shard, command["id"]), result)
        for field in ("status", "reason", "balances", "type"):
            assert result[field] == first[field], "a repeat has another outcome"
        if result["status"] == "accepted" and not result["replayed"]:
            sign = {"deposit": 1, "withdraw": -1}.get(command["type"], 0)
            self.paid_in += sign * command.get("amount", 0)

    @contextmanager
    def expect(self, shard: int, command_id: str) -> Iterator[Expectation]:
        yield Waiting(self, command_id)

    def query(self, address: str, shard: int, parameters: dict[str, str], timeout_s: float) -> Json:
        machine = self.machines[shard]
        result = Ledger().query(machine.state, parameters)
        return {"result": result, "seq": 1, "epoch": 1, "shard": shard, "replica": "r1"}

    @property
    def money(self) -> int:
        return sum(sum(machine.state.values()) for machine in self.machines)


class Waiting:
    def __init__(self, system: System, command_id: str) -> None:
        self._system, self._id = system, command_id

    def wait(self, timeout_s: float) -> bytes | None:
        return self._system.results.get(self._id)


SYSTEM = System()


def make_wsgi() -> Flask:
    return make_app(
        Gateway(
            commands=SYSTEM,
            results=SYSTEM,
            directory=FakeReplicas(),
            replicas=SYSTEM,
            command_type=Ledger.command_type,
            shards=SHARDS,
            metrics=Metrics(),
            openapi=document(Ledger.command_type),
            asyncapi={},
        )
    )


APP = make_wsgi()
REFUSALS = ["400", "404", "405", "413", "415", "422"]
CONFIG = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
)
SCHEMA = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", APP, config=CONFIG)


def made_valid(case: Case) -> Case:
    """Apply the rules that the schema does not express: header, query and body do not contradict
    each other, a key is printable ASCII, and 5.0, an integer in JSON Schema, is not accepted."""
    if case.meta.generation.mode is not GenerationMode.POSITIVE:
        return case
    key = (case.headers or {}).get("Idempotency-Key")
    if key is not None and not re.fullmatch("[ -~]*[!#-~][ -~]*", key):
        case.headers["Idempotency-Key"] = "k"
    bodies = case.body if isinstance(case.body, list) else [case.body]
    for body in (body for body in bodies if isinstance(body, dict)):
        if isinstance(body.get("amount"), float):
            body["amount"] = int(body["amount"])
        if key is not None:
            body.pop("id", None)
        if "ledger" in (case.query or {}):
            body.pop("ledger", None)
    return case


@pytest.fixture(autouse=True)
def start() -> None:
    SYSTEM.reset()


def cases_of(path: str, method: str = "POST") -> st.SearchStrategy[Case]:
    return SCHEMA[path][method].as_strategy()


class Clients(RuleBasedStateMachine):
    """Clients that send one request after the other, some of them based on earlier ones."""

    sent: Bundle[Case] = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        SYSTEM.reset()
        for number, account in enumerate("abc"):
            opened = {"type": "open", "account": account, "id": f"open-{account}"}
            paid_in = {**opened, "type": "deposit", "amount": 100 * number, "id": f"pay-{account}"}
            for command in (opened, paid_in) if number else (opened,):
                shard = shard_of(b"main", SHARDS)
                SYSTEM.append([Record(b"main", shard, msgspec.json.encode(command))])

    def call(self, case: Case) -> Response:
        response: Response = case.call()
        case.validate_response(response)
        return response

    @rule(target=sent, case=cases_of("/api/v1/commands"))
    def submit(self, case: Case) -> Any:
        accepted = self.call(made_valid(case)).status_code in (200, 202)
        return case if accepted else multiple()

    @rule(
        target=sent,
        case=cases_of("/api/v1/commands"),
        accounts=st.permutations(["a", "b", "c"]),
        amount=st.integers(1, 100),
    )
    def submit_among_few(self, case: Case, accounts: list[str], amount: int) -> Any:
        """Use a few accounts only, so that there is money to withdraw and transfer."""
        case.query, fields = {}, dict(zip(("account", "from", "to"), accounts, strict=True))
        if isinstance(case.body, dict):
            case.body.pop("ledger", None)
            case.body |= {name: fields[name] for name in fields if name in case.body}
            case.body |= {"amount": amount} if "amount" in case.body else {}
        return self.submit(case)

    @rule(case=sent)
    def repeat_unchanged(self, case: Case) -> None:
        """With an id of its own it takes effect once; see `System._check`."""
        assert self.call(case).status_code in (200, 202)

    @rule(case=sent)
    def read_an_account_of_a_command(self, case: Case) -> None:
        account = case.body.get("account") or case.body["to"]
        # schemathesis does not encode some characters of names, so that `#` begins a fragment.
        path = f"/api/v1/accounts/{quote(account, safe='')}"
        ledger = (case.query or {}).get("ledger") or case.body.get("ledger")
        query = {} if ledger is None else {"ledger": ledger}
        response = APP.test_client().get(path, query_string=query)
        shard = shard_of(parsing.ledger_key(ledger), SHARDS)
        held = SYSTEM.machines[shard].state.get(account)
        assert response.status_code == (404 if held is None else 200)
        assert held is None or response.get_json()["balance"] == held

    @rule(case=cases_of("/api/v1/commands/batch"))
    def submit_many(self, case: Case) -> None:
        before = sum(SYSTEM.appended)
        accepted = self.call(made_valid(case)).status_code == 202
        count = len(case.body) if isinstance(case.body, list) else 1
        assert accepted or sum(SYSTEM.appended) == before, "a refused batch was sent in part"
        assert not accepted or sum(SYSTEM.appended) >= before + min(count, 1)

    @invariant()
    def no_money_is_made_or_lost(self) -> None:
        assert SYSTEM.money == SYSTEM.paid_in


TestClients = Clients.TestCase
TestClients.settings = settings(
    max_examples=30,
    stateful_step_count=15,
    phases=[Phase.generate],  # a request is large, and shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("ignore:Skipped test cases")  # schemathesis skips NDJSON
@SCHEMA.parametrize()
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_every_operation_conforms_to_the_document(case: Case) -> None:
    made_valid(case).call_and_validate()
