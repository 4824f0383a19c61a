"""The coordinator's OpenAPI document, out of the types that it answers with."""

from __future__ import annotations

from typing import Any

from postjournal.cluster.status import Failover, ReplicaStatus
from postjournal.cluster.view import ShardView
from services.coordinator.catalogue import Row
from services.coordinator.requests import TITLES, CrashRequest, HandoverRequest, SnapshotRequest
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
from services.problems import COMMON
from services.responses import JSON

PROBLEMS = Problems({**COMMON, **TITLES})
TYPES = (SnapshotRequest, HandoverRequest, CrashRequest, Row, ReplicaStatus, Failover, ShardView)
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    _, schemas = schemas_of(*TYPES)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postjournal coordinator",
            "version": "1",
            "description": (
                "Snapshots, handovers, and how the cluster is doing. What changes something needs "
                "the bearer token where POSTJOURNAL_API_TOKEN is set."
            ),
        },
        "paths": _paths(),
        "components": {
            "schemas": {**schemas, "Snapshots": _snapshots(), "Problem": PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/snapshots": {"post": _ask(), "get": _list()},
        "/api/v1/snapshot": {"post": _ask() | {"summary": "As POST /api/v1/snapshots"}},
        "/api/v1/snapshots/{snapshot_id}": {"get": _one()},
        "/api/v1/cluster": {"get": _cluster()},
        "/api/v1/handover": {"post": _hand_over()},
        "/api/v1/query": {"get": _query()},
        "/api/v1/crash": {"post": _crash()},
        **health(PROBLEMS, "Kafka and the store can be reached"),
    }


def _ask() -> dict[str, Any]:
    key = {"name": "Idempotency-Key", "in": "header", "schema": TEXT | {"maxLength": 64}}
    return {
        "summary": "Take a snapshot of one shard or all",
        "description": (
            "A standby of each shard is asked to write its state down. With the header "
            "`Idempotency-Key` that becomes the snapshot's id, and asking again asks for no other."
        ),
        "security": BEARER,
        "parameters": [key],
        "requestBody": body_of({JSON: ref("schemas", "SnapshotRequest")}) | {"required": False},
        "responses": {
            "202": answer("They are asked to; see the Location.", "Snapshots"),
            **PROBLEMS.of(
                "malformed-request",
                "unauthorized",
                "cross-site",
                "not-found",
                "no-standby",
                "too-large",
                "unsupported-media-type",
                "unavailable",
            ),
        },
    }


def _list() -> dict[str, Any]:
    rows = {"type": "array", "items": ref("schemas", "Row")}
    return {
        "summary": "The snapshots, newest first",
        "responses": {
            "200": answer(
                "Stored ones, those under way, those that failed.", obj({"snapshots": rows})
            ),
            **PROBLEMS.of("unavailable"),
        },
    }


def _one() -> dict[str, Any]:
    path = {"name": "snapshot_id", "in": "path", "required": True, "schema": TEXT}
    return {
        "summary": "One snapshot, a row for each shard",
        "parameters": [path],
        "responses": {
            "200": answer("`state` is that of the shard that is furthest behind.", "Snapshots"),
            **PROBLEMS.of("unknown-snapshot", "unavailable"),
        },
    }


def _snapshots() -> dict[str, Any]:
    rows = {"type": "array", "items": ref("schemas", "Row")}
    found = obj({"id": TEXT, "snapshots": rows})
    found["properties"]["state"] = TEXT
    return found


def _cluster() -> dict[str, Any]:
    flags = obj({"silent": {"type": "boolean"}, "duplicate_name": {"type": "boolean"}})
    replica = {"allOf": [ref("schemas", "ReplicaStatus"), flags]}
    shards = {"type": "object", "additionalProperties": ref("schemas", "ShardView")}
    return {
        "summary": "Shards, replicas and the last failovers, as the replicas tell",
        "responses": {
            "200": answer(
                "Shard number → who leads it; every replica in every shard.",
                obj(
                    {
                        "shards": shards,
                        "replicas": {"type": "array", "items": replica},
                        "failovers": {"type": "array", "items": ref("schemas", "Failover")},
                    }
                ),
            )
        },
    }


def _hand_over() -> dict[str, Any]:
    told = obj({"shard": NUMBER, "leader": TEXT, "successor": {"type": ["string", "null"]}})
    return {
        "summary": "Ask the leader to resign in favour of a standby",
        "security": BEARER,
        "requestBody": body_of({JSON: ref("schemas", "HandoverRequest")}) | {"required": False},
        "responses": {
            "202": answer("It is asked to.", told),
            **PROBLEMS.of(
                "malformed-request",
                "unauthorized",
                "cross-site",
                "not-found",
                "no-leader",
                "no-standby",
                "too-large",
                "unsupported-media-type",
                "unavailable",
            ),
        },
    }


def _query() -> dict[str, Any]:
    shard = {"name": "shard", "in": "query", "schema": NUMBER | {"minimum": 0, "default": 0}}
    at = {
        "name": "at",
        "in": "query",
        "description": "now, or a point: seq:N, offset:N or time:2026-01-31T12:00:00Z.",
        "schema": TEXT | {"default": "now"},
    }
    other = {
        "name": "query",
        "in": "query",
        "description": "What the application takes: for the ledger account=NAME.",
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": TEXT},
    }
    return {
        "summary": "Ask the application's state, as it is or as it was",
        "description": (
            "As of now the leader answers, and the answer is linearizable. As of a past point the "
            "nearest snapshot before it is restored and the journal replayed from there, which "
            "needs the token and may take a minute. `answer` is null when nothing is known."
        ),
        "security": BEARER,
        "parameters": [shard, at, other],
        "responses": {
            "200": answer(
                "The application's answer, and what it accounts for.",
                obj({"shard": NUMBER, "at": TEXT, "answer": {}, "seq": NUMBER, "epoch": NUMBER}),
            ),
            **PROBLEMS.of(
                "malformed-request",
                "unauthorized",
                "cross-site",
                "not-found",
                "no-such-point",
                "no-leader",
                "too-busy",
                "query-failed",
                "replay-failed",
                "unavailable",
                "too-slow",
            ),
        },
    }


def _crash() -> dict[str, Any]:
    return {
        "summary": "Kill a replica with SIGKILL, where POSTJOURNAL_ALLOW_CRASH=1",
        "security": BEARER,
        "requestBody": body_of({JSON: ref("schemas", "CrashRequest")}),
        "responses": {
            "202": answer("It is dead.", obj({"replica": TEXT, "crashed": {"type": "boolean"}})),
            **PROBLEMS.of(
                "malformed-request",
                "unauthorized",
                "cross-site",
                "not-allowed",
                "not-found",
                "too-large",
                "unsupported-media-type",
            ),
        },
    }
