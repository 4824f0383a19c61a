"""Generates the AsyncAPI document (version 3) of a system's topics from the record types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from postjournal.cluster.status import ControlRecord, StatusRecord
from postjournal.cluster.topics import DEADLETTER, DEFAULT_KEY, Topics
from postjournal.core.application import Application, Output
from postjournal.core.records import Claim, Entry, Heartbeat, Resign
from postjournal.core.state.state_machine import DeadLetterOutput

REF = "#/components/schemas/{name}"
JSON = "application/json"

RECEIVE, SEND = "receive", "send"
"""The AsyncAPI actions from the replicas' point of view; they do both on the journal."""

JOURNAL = (
    "One partition is one shard's journal; the order of its offsets decides which records count. "
    "A reader folds it as described in docs/protocol.md; records that the fold does not accept are "
    "void."
)
CONTROL = "Requests to the replicas, from the coordinator and from operators."
STATUS = (
    "The state of the replicas, written once a second and at each change. No decision depends on "
    "it."
)
SOURCE = (
    "Commands. The murmur2 hash of the key selects the partition, which is the shard; the default "
    f"key is `{DEFAULT_KEY.decode()}`. A header `traceparent` (W3C) is stored with the record."
)
SINK = (
    "`seq` is dense from 0 in each partition. A record may appear twice after a failure: a "
    "consumer drops records with `seq <= last`."
)
TRACEPARENT = {
    "type": "object",
    "properties": {"traceparent": {"type": "string"}, "tracestate": {"type": "string"}},
}


def document(
    application: Application[Any, Any, Any], namespace: str, shards: int
) -> dict[str, Any]:
    """The document of the topics of `application` in `namespace`; `shards`: partitions of each."""
    topics = Topics.of(namespace, application.sources, application.sinks)
    records = _records(application, topics)
    schemas, components = msgspec.json.schema_components(records.values(), ref_template=REF)
    by_name = dict(zip(records, schemas, strict=True))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"{type(application).__name__} on Postjournal",
            "version": str(application.schema_version),
            "description": f"The topics of the namespace `{namespace}`; partitions: {shards}.",
        },
        "defaultContentType": JSON,
        "channels": {name: _channel(topics, name, shards) for name in records},
        "operations": {
            f"{action}-{name}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"{'Read' if action == RECEIVE else 'Written'} by the replicas.",
            }
            for name in records
            for action in _actions(topics, name)
        },
        "components": {
            "messages": {name: _message(name, schema, topics) for name, schema in by_name.items()},
            "schemas": components,
        },
    }


def _records(application: Application[Any, Any, Any], topics: Topics) -> dict[str, Any]:
    """Short topic name → the type of its records."""
    outputs: Mapping[str, Any] = {**application.output_types, DEADLETTER: DeadLetterOutput}
    entry = Entry[application.event_type]  # type: ignore[name-defined]
    return {
        **dict.fromkeys(topics.sources, application.command_type),
        "journal": Claim | entry | Heartbeat | Resign,
        **{sink: outputs.get(sink, Output) for sink in topics.sinks},
        "control": ControlRecord,
        "status": StatusRecord,
    }


def _actions(topics: Topics, name: str) -> tuple[str, ...]:
    if name == "journal":
        return RECEIVE, SEND
    return (RECEIVE,) if name in (*topics.sources, "control") else (SEND,)


def _channel(topics: Topics, name: str, shards: int) -> dict[str, Any]:
    descriptions = {"journal": JOURNAL, "control": CONTROL, "status": STATUS}
    return {
        "address": topics.topic(name),
        "description": descriptions.get(name) or (SOURCE if name in topics.sources else SINK),
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": {"topic": topics.topic(name), "partitions": shards}},
    }


def _message(name: str, schema: dict[str, Any], topics: Topics) -> dict[str, Any]:
    message = {"name": name, "contentType": JSON, "payload": schema}
    return message | {"headers": TRACEPARENT} if name in topics.sources else message
