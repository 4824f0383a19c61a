"""The coordinator's OpenAPI document; the schemas are those of the types it returns."""

from __future__ import annotations

from typing import Any

from postjournal.cluster.status import Failover, ReplicaStatus
from postjournal.cluster.view import ShardView
from services.coordinator.api.requests import CrashRequest, HandoverRequest, SnapshotRequest
from services.coordinator.problems import TITLES
from services.coordinator.snapshots import Row
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
CHANGE_PROBLEMS = (
    *("malformed-request", "unauthorized", "cross-site", "not-found"),
    *("too-large", "unsupported-media-type"),
)
"""Of the operations that change the system."""

TYPES = (SnapshotRequest, HandoverRequest, CrashRequest, Row, ReplicaStatus, Failover, ShardView)
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    _, schemas = schemas_of(*TYPES)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postjournal coordinator",
            "version": "1",
            "description": (
                "Snapshots, handovers, the state of the cluster, and queries of the application's "
                "state. If POSTJOURNAL_API_TOKEN is set, requests that change the system need it "
                "as a bearer token."
            ),
        },
        "paths": _paths(),
        "components": {
            "schemas": {**schemas, "Snapshots": _snapshots(), "Problem": PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    alias = _request_snapshots() | {"summary": "Alias of POST /api/v1/snapshots"}
    return {
        "/api/v1/snapshots": {"post": _request_snapshots(), "get": _list_snapshots()},
        "/api/v1/snapshot": {"post": alias},
        "/api/v1/snapshots/{snapshot_id}": {"get": _show_snapshot()},
        "/api/v1/cluster": {"get": _cluster()},
        "/api/v1/handover": {"post": _hand_over()},
        "/api/v1/query": {"get": _query()},
        "/api/v1/crash": {"post": _crash()},
        **health(PROBLEMS, "Kafka and the snapshot store are available"),
    }


def _request_snapshots() -> dict[str, Any]:
    key = {"name": "Idempotency-Key", "in": "header", "schema": TEXT | {"maxLength": 64}}
    return {
        "summary": "Take a snapshot of one shard or of all",
        "description": (
            "Orders a snapshot from a standby of each shard. If one of the shards has no in-sync "
            "standby, nothing is ordered. The header `Idempotency-Key` sets the snapshot's id; a "
            "repeated request with the same id orders no other snapshot."
        ),
        "security": BEARER,
        "parameters": [key],
        "requestBody": body_of({JSON: ref("schemas", "SnapshotRequest")}) | {"required": False},
        "responses": {
            "202": answer("The snapshots are ordered; follow them at the Location.", "Snapshots"),
            **PROBLEMS.of(*CHANGE_PROBLEMS, "no-standby", "unavailable"),
        },
    }


def _list_snapshots() -> dict[str, Any]:
    rows = {"type": "array", "items": ref("schemas", "Row")}
    return {
        "summary": "All snapshots, newest first",
        "responses": {
            "200": answer(
                "Stored snapshots, those in progress, and failed ones.", obj({"snapshots": rows})
            ),
            **PROBLEMS.of("unavailable"),
        },
    }


def _show_snapshot() -> dict[str, Any]:
    path = {"name": "snapshot_id", "in": "path", "required": True, "schema": TEXT}
    return {
        "summary": "One snapshot, with a row for each shard",
        "parameters": [path],
        "responses": {
            "200": answer(
                "`state` is the state of the shard that is furthest behind.", "Snapshots"
            ),
            **PROBLEMS.of("unknown-snapshot", "unavailable"),
        },
    }


def _snapshots() -> dict[str, Any]:
    rows = {"type": "array", "items": ref("schemas", "Row")}
    schema = obj({"id": TEXT, "snapshots": rows})
    schema["properties"]["state"] = TEXT
    return schema


def _cluster() -> dict[str, Any]:
    flags = obj({"silent": {"type": "boolean"}, "duplicate_name": {"type": "boolean"}})
    replica = {"allOf": [ref("schemas", "ReplicaStatus"), flags]}
    shards = {"type": "object", "additionalProperties": ref("schemas", "ShardView")}
    return {
        "summary": "Shards, replicas and the last failovers, as reported by the replicas",
        "responses": {
            "200": answer(
                "`shards`: shard number → its leader; `replicas`: each replica in each shard.",
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
    schema = obj({"shard": NUMBER, "leader": TEXT, "successor": {"type": ["string", "null"]}})
    return {
        "summary": "Request the leader to resign in favor of a standby",
        "security": BEARER,
        "requestBody": body_of({JSON: ref("schemas", "HandoverRequest")}) | {"required": False},
        "responses": {
            "202": answer("The request is sent to the leader.", schema),
            **PROBLEMS.of(*CHANGE_PROBLEMS, "no-leader", "no-standby", "unavailable"),
        },
    }


def _query() -> dict[str, Any]:
    shard = {"name": "shard", "in": "query", "schema": NUMBER | {"minimum": 0, "default": 0}}
    at = {
        "name": "at",
        "in": "query",
        "description": "now, or a past point: seq:N, offset:N or time:2026-01-31T12:00:00Z.",
        "schema": TEXT | {"default": "now"},
    }
    application_parameters = {
        "name": "query",
        "in": "query",
        "description": "The application's parameters; for the ledger: account=NAME.",
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": TEXT},
    }
    return {
        "summary": "Query the application's state, current or past",
        "description": (
            "The leader answers queries of the current state; they are linearizable. For a past "
            "point, the coordinator restores the nearest snapshot before it and replays the "
            "journal from there; this requires the token and may take a minute. `answer` is null "
            "when the query found nothing."
        ),
        "security": BEARER,
        "parameters": [shard, at, application_parameters],
        "responses": {
            "200": answer(
                "The application's answer; it accounts for all commands up to `seq`.",
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
        "summary": "Kill a replica with SIGKILL, if POSTJOURNAL_ALLOW_CRASH=1",
        "security": BEARER,
        "requestBody": body_of({JSON: ref("schemas", "CrashRequest")}),
        "responses": {
            "202": answer(
                "The replica is dead.", obj({"replica": TEXT, "crashed": {"type": "boolean"}})
            ),
            **PROBLEMS.of(*CHANGE_PROBLEMS, "not-allowed", "unavailable"),
        },
    }
