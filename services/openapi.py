"""The parts that the services' OpenAPI documents share (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any

import msgspec

from services.problems import MEDIA_TYPE, Titles

JSON = "application/json"
REF = "#/components/schemas/{name}"

NUMBER, TEXT = {"type": "integer"}, {"type": "string"}

RETRY_AFTER = {"Retry-After": {"schema": NUMBER, "description": "Seconds."}}
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": (
        "RFC 9457. `type` is `urn:postjournal:problem:` and the problem's name. If a command was "
        "sent, `outcome` is accepted, not_accepted or unknown. For a batch it is not_accepted only "
        "if none of its commands was or may be accepted; otherwise it is unknown, and `commands` "
        "has the outcome of each."
    ),
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": NUMBER,
        "detail": TEXT,
        "instance": TEXT,
        "outcome": {"enum": ["accepted", "not_accepted", "unknown"]},
    },
    "required": ["type", "title", "status", "detail", "instance"],
}


class Problems:
    """The problem types of one service, as OpenAPI responses."""

    def __init__(self, titles: Titles) -> None:
        self._titles = titles

    def of(self, *kinds: str) -> dict[str, Any]:
        """Status → response; problem types of the same status share a response."""
        by_status: dict[int, list[str]] = {}
        for kind in kinds:
            by_status.setdefault(self._titles[kind][0], []).append(kind)
        return {str(status): self._response(status, group) for status, group in by_status.items()}

    def _response(self, status: int, kinds: list[str]) -> dict[str, Any]:
        titles = "; ".join(f"{self._titles[kind][1]} (`{kind}`)" for kind in kinds)
        content = {MEDIA_TYPE: {"schema": ref("schemas", "Problem")}}
        response: dict[str, Any] = {"description": f"{titles}.", "content": content}
        return response | {"headers": RETRY_AFTER} if status in (429, 503) else response


def schemas_of(*types: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The schema of each type, and the components that these refer to."""
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    return list(schemas), components


def ref(group: str, name: str) -> dict[str, str]:
    """A reference to a component of the document; `group`: schemas, parameters and so on."""
    return {"$ref": f"#/components/{group}/{name}"}


def obj(properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object whose properties are all required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def body_of(schemas: dict[str, Any]) -> dict[str, Any]:
    """A required request body; `schemas`: media type → schema."""
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    return {"required": True, "content": content}


def answer(description: str, schema: str | dict[str, Any]) -> dict[str, Any]:
    """A JSON response; `schema`: a component's name, or the schema itself."""
    found = ref("schemas", schema) if isinstance(schema, str) else schema
    return {"description": description, "content": {JSON: {"schema": found}}}


def health(problems: Problems, what: str) -> dict[str, Any]:
    """The paths `/livez` and `/readyz`; `what`: what a service that is ready can do."""
    yes = answer("Yes.", obj({"status": TEXT}))
    return {
        "/livez": {"get": {"summary": "The process is live", "responses": {"200": yes}}},
        "/readyz": {
            "get": {"summary": what, "responses": {"200": yes, **problems.of("unavailable")}}
        },
    }
