"""The gateway's OpenAPI document; the schemas of commands come from the application's types."""

from __future__ import annotations

from typing import Any

from postjournal.core.records import MAX_ID_LENGTH
from services.openapi import (
    NUMBER,
    PROBLEM,
    TEXT,
    Problems,
    answer,
    body_of,
    health,
    obj,
    ref,
    schemas_of,
)
from services.producer import parsing
from services.producer.problems import TITLES

PROBLEMS = Problems(TITLES)

_LEDGER = {"type": "string", "minLength": 1, "maxLength": parsing.MAX_KEY_LENGTH}
_LEDGER_IN_BODY = "As the query parameter; if both are sent, they must be equal."


def document(command_type: Any) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document; `command_type`: the application's."""
    (command,), schemas = schemas_of(command_type)
    for schema in schemas.values():
        _make_id_optional(schema)
        _add_ledger(schema)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postjournal gateway",
            "version": "1",
            "description": "Appends commands to the log; returns results and balances.",
        },
        "paths": _paths(),
        "components": {
            "schemas": {**schemas, "Command": command, **_schemas()},
            "parameters": _parameters(),
        },
    }


def _make_id_optional(schema: dict[str, Any]) -> None:
    """The gateway creates the id of a command without one."""
    required = schema.get("required", [])
    if "id" in schema.get("properties", {}) and "id" in required:
        required.remove("id")


def _add_ledger(schema: dict[str, Any]) -> None:
    """Unless the application's type has such a field, or forbids unknown fields."""
    properties = schema.get("properties", {})
    if "id" in properties and schema.get("additionalProperties") is not False:
        properties.setdefault("ledger", _LEDGER | {"description": _LEDGER_IN_BODY})


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/commands": {"post": _submit()},
        "/api/v1/commands/batch": {"post": _submit_batch()},
        "/api/v1/accounts/{account}": {"get": _account()},
        "/api/v1/leader": {"get": _leader()},
        **health(PROBLEMS, "Commands are accepted"),
    }


def _submit() -> dict[str, Any]:
    return {
        "summary": "Submit one command",
        "description": (
            "Answers when Kafka's in-sync replicas have the command. With `Prefer: wait=N` the "
            "answer is the command's result if it comes within N seconds of the request. The id "
            "identifies a command: submitted again, it takes effect once, and the result is the "
            "first outcome with `replayed` set."
        ),
        "parameters": [ref("parameters", n) for n in ("ledger", "idempotency_key", "prefer")],
        "requestBody": body_of({"application/json": ref("schemas", "Command")}),
        "responses": {
            "200": answer("The result; see `status` for accepted or rejected.", "Result"),
            "202": answer("The command is in the log; it is not decided yet.", "Accepted"),
            **PROBLEMS.of(
                "malformed-request",
                "too-large",
                "unsupported-media-type",
                "invalid-command",
                "too-busy",
                "unavailable",
                "outcome-unknown",
            ),
        },
    }


def _submit_batch() -> dict[str, Any]:
    commands: dict[str, Any] = {"type": "array", "items": ref("schemas", "Command")}
    commands |= {"minItems": 1, "maxItems": parsing.MAX_BATCH}
    return {
        "summary": "Submit up to 10,000 commands",
        "description": (
            "All commands are validated before any is sent: if one is invalid, the whole batch is "
            "refused with the reasons in `errors`, so the corrected batch can be sent again. "
            "Then each command is decided separately, those of one ledger in order; each may name "
            "its own `ledger`. With the header `Idempotency-Key: K`, the n-th command (from 0) "
            "gets the id `K-n` unless it has its own, which makes the batch safe to repeat. Media "
            f"types of newline-delimited JSON: {', '.join(parsing.LINE_TYPES)}."
        ),
        "parameters": [ref("parameters", n) for n in ("ledger", "idempotency_key_of_batch")],
        "requestBody": body_of(
            {"application/json": commands, "application/x-ndjson": {"type": "string"}}
        ),
        "responses": {
            "202": answer("All commands are in the log.", "BatchAccepted"),
            **PROBLEMS.of(
                "malformed-request",
                "too-large",
                "unsupported-media-type",
                "invalid-batch",
                "too-busy",
                "unavailable",
                "outcome-unknown",
            ),
        },
    }


def _account() -> dict[str, Any]:
    path = {"name": "account", "in": "path", "required": True}
    return {
        "summary": "An account's balance",
        "description": (
            "`seq` is the sequence of the last command that the answer accounts for (-1: none). "
            "`consistency=leader`, the default, is linearizable: the answer accounts for every "
            "command that was acknowledged before the request. `consistency=any` reads from a "
            "standby, which may lag by some milliseconds. To read your own writes, add `min_seq` "
            "with the `seq` of the result that you have seen: the replica waits for that state, "
            "and the gateway tries other replicas, for three seconds in total; then the answer is "
            "503 `behind`, with the `seq` that was reached."
        ),
        "parameters": [
            path | {"schema": {"type": "string", "minLength": 1, "maxLength": 128}},
            ref("parameters", "ledger"),
            ref("parameters", "consistency"),
            ref("parameters", "min_seq"),
        ],
        "responses": {
            "200": answer("The balance.", "Account"),
            **PROBLEMS.of("malformed-request", "unknown-account", "no-leader", "behind"),
        },
    }


_NULLABLE_TEXT, _NULLABLE_NUMBER = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
_LEADER = {
    "type": "object",
    "properties": {
        "shard": NUMBER,
        "leader": _NULLABLE_TEXT,
        "epoch": _NULLABLE_NUMBER,
        "address": _NULLABLE_TEXT | {"description": "host:port of the leader's tripwire."},
        "http": _NULLABLE_TEXT | {"description": "host:port of the leader's HTTP server."},
        "since": NUMBER | {"description": "When the leadership began, ms since the Unix epoch."},
        "state": TEXT,
        "seq": NUMBER | {"description": "The number of commands decided so far."},
    },
    "required": ["shard", "leader", "epoch"],
}


def _leader() -> dict[str, Any]:
    shard = {"name": "shard", "in": "query", "schema": {"type": "integer", "minimum": 0}}
    return {
        "summary": "The leader of each shard",
        "parameters": [shard],
        "responses": {
            "200": answer(
                "All shards, or the requested one. `leader` is null when none is known.",
                {"anyOf": [obj({"shards": {"type": "array", "items": _LEADER}}), _LEADER]},
            ),
            **PROBLEMS.of("malformed-request", "not-found"),
        },
    }


def _parameters() -> dict[str, Any]:
    return {
        "ledger": {
            "name": "ledger",
            "in": "query",
            "description": (
                "The ledger, which selects the shard. A command may name it in its body instead."
            ),
            "schema": _LEDGER | {"default": "main"},
        },
        "consistency": {
            "name": "consistency",
            "in": "query",
            "schema": {"type": "string", "enum": ["leader", "any"], "default": "leader"},
        },
        "idempotency_key": _key(MAX_ID_LENGTH),
        "idempotency_key_of_batch": _key(parsing.MAX_BATCH_KEY_LENGTH),
        "min_seq": {
            "name": "min_seq",
            "in": "query",
            "description": "The answer must account for the command with this sequence.",
            "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
        },
        "prefer": {
            "name": "Prefer",
            "in": "header",
            "description": f"`wait=N`: seconds, at most {parsing.MAX_WAIT_S} (RFC 7240).",
            "schema": {"type": "string", "examples": ["wait=5"]},
        },
    }


def _key(max_length: int) -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Printable ASCII.",
        "schema": {"type": "string", "minLength": 1, "maxLength": max_length},
    }


def _schemas() -> dict[str, Any]:
    position = {"seq": NUMBER, "epoch": NUMBER, "shard": NUMBER, "replica": TEXT}
    accepted = obj({"id": TEXT, "shard": NUMBER, "offset": NUMBER})
    batch = {"accepted": NUMBER, "commands": {"type": "array", "items": ref("schemas", "Accepted")}}
    return {
        "Accepted": accepted,
        "BatchAccepted": obj(batch),
        "Account": obj({"account": TEXT, "balance": NUMBER, **position}),
        "Result": {
            "type": "object",
            "description": "The record of the results topic, unchanged.",
            "properties": {"id": TEXT, "seq": NUMBER},
            "required": ["id", "seq"],
        },
        "Problem": PROBLEM,
    }
