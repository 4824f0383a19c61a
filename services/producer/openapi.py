"""The OpenAPI document; the commands' schemas are the application's types."""

from __future__ import annotations

from typing import Any

import msgspec

from postjournal.core.records import MAX_ID_LENGTH
from services.producer import parsing
from services.producer.problems import MEDIA_TYPE, TITLES

REF = "#/components/schemas/{name}"


def document(command_type: Any) -> dict[str, Any]:
    """OpenAPI 3.1."""
    (command,), schemas = msgspec.json.schema_components((command_type,), ref_template=REF)
    for schema in schemas.values():
        _make_id_optional(schema)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postjournal gateway",
            "version": "1",
            "description": "Commands into the log, results and balances out of it.",
        },
        "paths": _paths(),
        "components": {
            "schemas": {**schemas, "Command": command, **_schemas()},
            "parameters": _parameters(),
            "responses": _problem_responses(),
        },
    }


def _make_id_optional(schema: dict[str, Any]) -> None:
    """The gateway supplies it where the body does not."""
    required = schema.get("required", [])
    if "id" in schema.get("properties", {}) and "id" in required:
        required.remove("id")


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/commands": {"post": _submit()},
        "/api/v1/commands/batch": {"post": _submit_batch()},
        "/api/v1/accounts/{account}": {"get": _account()},
        "/api/v1/leader": {"get": _leader()},
        "/livez": {"get": {"summary": "The process lives", "responses": {"200": _said("Yes.")}}},
        "/readyz": {
            "get": {
                "summary": "Commands can be taken",
                "responses": {"200": _said("Yes."), **_problems("unavailable")},
            }
        },
    }


def _submit() -> dict[str, Any]:
    return {
        "summary": "Submit one command",
        "description": (
            "Answered when Kafka's in-sync replicas hold the command. With `Prefer: wait=N` the "
            "answer is the command's result, where it comes within N seconds. A command is "
            "recognised by its id: submitted again, it takes effect once, and the first outcome "
            "is told with `replayed` set."
        ),
        "parameters": [_ref("parameters", n) for n in ("ledger", "idempotency_key", "prefer")],
        "requestBody": _body_of({"application/json": _ref("schemas", "Command")}),
        "responses": {
            "200": _answer("The result; see `status` for accepted or rejected.", "Result"),
            "202": _answer("In the log; not decided yet.", "Accepted"),
            **_problems(
                "malformed-request",
                "too-large",
                "unsupported-media-type",
                "invalid-command",
                "too-busy",
                "outcome-unknown",
            ),
        },
    }


def _submit_batch() -> dict[str, Any]:
    commands: dict[str, Any] = {"type": "array", "items": _ref("schemas", "Command")}
    commands |= {"minItems": 1, "maxItems": parsing.MAX_BATCH}
    return {
        "summary": "Submit up to 10,000 commands",
        "description": (
            "All commands are checked before any is sent: if one is invalid the whole batch is "
            "refused, with the reasons in `errors`, so that a corrected batch can be sent as it "
            "is. After that each command is decided by itself, in order. With the header "
            "`Idempotency-Key: K` the n-th command without an id of its own gets the id `K-n`, "
            "n from 0, which makes the batch safe to repeat."
        ),
        "parameters": [_ref("parameters", n) for n in ("ledger", "idempotency_key_of_batch")],
        "requestBody": _body_of(
            {"application/json": commands, "application/x-ndjson": {"type": "string"}}
        ),
        "responses": {
            "202": _answer("All are in the log.", "BatchAccepted"),
            **_problems(
                "malformed-request",
                "too-large",
                "unsupported-media-type",
                "invalid-batch",
                "too-busy",
                "outcome-unknown",
            ),
        },
    }


def _account() -> dict[str, Any]:
    path = {"name": "account", "in": "path", "required": True}
    return {
        "summary": "An account's balance",
        "description": (
            "The answer is true at `seq`, that of the last command that it accounts for (-1: "
            "none). `consistency=leader`, "
            "the default, is linearizable: the answer accounts for everything that was "
            "acknowledged before the request. `consistency=any` asks a standby, which may lag by "
            "some milliseconds. To read what you have written, add `min_seq` with the `seq` of "
            "the result that you have seen: the replica waits for that state, and the gateway "
            "tries others, for three seconds together; then the answer is 503 `behind`, which "
            "tells the `seq` that was reached."
        ),
        "parameters": [
            path | {"schema": {"type": "string", "minLength": 1, "maxLength": 128}},
            _ref("parameters", "ledger"),
            _ref("parameters", "consistency"),
            _ref("parameters", "min_seq"),
        ],
        "responses": {
            "200": _answer("The balance.", "Account"),
            **_problems("malformed-request", "unknown-account", "no-leader"),
        },
    }


def _leader() -> dict[str, Any]:
    shard = {"name": "shard", "in": "query", "schema": {"type": "integer", "minimum": 0}}
    return {
        "summary": "Who leads",
        "parameters": [shard],
        "responses": {
            "200": _said("All shards, or the one asked for. `leader` is null when none is known."),
            **_problems("malformed-request", "not-found"),
        },
    }


def _parameters() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": 128}
    return {
        "ledger": {
            "name": "ledger",
            "in": "query",
            "description": "Which ledger; it picks the shard.",
            "schema": text | {"default": "main"},
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
            "description": f"`wait=N`, seconds, {parsing.MAX_WAIT_S} at most (RFC 7240).",
            "schema": {"type": "string", "examples": ["wait=5"]},
        },
    }


def _key(longest: int) -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Printable ASCII.",
        "schema": {"type": "string", "minLength": 1, "maxLength": longest},
    }


def _schemas() -> dict[str, Any]:
    number, text = {"type": "integer"}, {"type": "string"}
    place = {"seq": number, "epoch": number, "shard": number, "replica": text}
    accepted = {"id": text, "shard": number, "offset": number}
    problem = {"type": text, "title": text, "status": number, "detail": text, "instance": text}
    outcome = {"enum": ["accepted", "not_accepted", "unknown"]}
    return {
        "Accepted": _object(accepted),
        "BatchAccepted": _object(
            {
                "accepted": number,
                "commands": {"type": "array", "items": _ref("schemas", "Accepted")},
            }
        ),
        "Account": _object({"account": text, "balance": number, **place}),
        "Result": {"type": "object", "description": "The record of the results topic."},
        "Problem": _object(problem) | {"description": f"RFC 9457. `outcome`: {outcome['enum']}."},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _problem_responses() -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": _ref("schemas", "Problem")}}
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        kind: {"description": title, "content": content}
        | ({"headers": retry} if status in (429, 503) else {})
        for kind, (status, title) in TITLES.items()
    }


def _problems(*kinds: str) -> dict[str, Any]:
    return {str(TITLES[kind][0]): _ref("responses", kind) for kind in kinds}


def _ref(group: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{group}/{name}"}


def _body_of(schemas: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": each} for kind, each in schemas.items()}}


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("schemas", schema)}}
    return {"description": description, "content": content}


def _said(description: str) -> dict[str, Any]:
    return {"description": description}
