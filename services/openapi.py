"""What the services' OpenAPI documents have in common (OpenAPI 3.1)."""

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
        "RFC 9457. `type` is `urn:postjournal:problem:` and the problem's name. Where a command "
        "was sent, `outcome` tells what is known of it: accepted, not_accepted or unknown. That of "
        "a batch is not_accepted only if none of its commands was accepted or may be; else it is "
        "unknown, and `commands` tells the outcome of each."
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
    """One service's problem types, as responses."""

    def __init__(self, titles: Titles) -> None:
        """`titles`: of the service alone, or with those that all services have."""
        self._titles = titles

    def of(self, *kinds: str) -> dict[str, Any]:
        """Status → response. Several of one status share their response."""
        by_status: dict[int, list[str]] = {}
        for kind in kinds:
            by_status.setdefault(self._titles[kind][0], []).append(kind)
        return {str(status): self._response(status, each) for status, each in by_status.items()}

    def _response(self, status: int, kinds: list[str]) -> dict[str, Any]:
        told = "; ".join(f"{self._titles[kind][1]} (`{kind}`)" for kind in kinds)
        content = {MEDIA_TYPE: {"schema": ref("schemas", "Problem")}}
        response: dict[str, Any] = {"description": f"{told}.", "content": content}
        return response | {"headers": RETRY_AFTER} if status in (429, 503) else response


def schemas_of(*types: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The schema of each type, and the components that they refer to."""
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    return list(schemas), components


def ref(group: str, name: str) -> dict[str, str]:
    """To one of the document's components."""
    return {"$ref": f"#/components/{group}/{name}"}


def obj(properties: dict[str, Any]) -> dict[str, Any]:
    """An object, all of whose properties are there."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def body_of(schemas: dict[str, Any]) -> dict[str, Any]:
    """A request body: media type → schema."""
    return {"required": True, "content": {kind: {"schema": each} for kind, each in schemas.items()}}


def answer(description: str, schema: str | dict[str, Any]) -> dict[str, Any]:
    """A JSON response; `schema`: a component's name, or the schema itself."""
    found = ref("schemas", schema) if isinstance(schema, str) else schema
    return {"description": description, "content": {JSON: {"schema": found}}}


def health(problems: Problems, what: str) -> dict[str, Any]:
    """The paths of `/livez` and `/readyz`; `what`: what a service that is ready can do."""
    said = answer("Yes.", obj({"status": TEXT}))
    return {
        "/livez": {"get": {"summary": "The process lives", "responses": {"200": said}}},
        "/readyz": {
            "get": {"summary": what, "responses": {"200": said, **problems.of("unavailable")}}
        },
    }
