"""Parts of the services' OpenAPI 3.1 documents."""

from __future__ import annotations

from typing import Any

import msgspec

from services.problems import MEDIA_TYPE, Titles
from services.responses import JSON

REF = "#/components/schemas/{name}"

NUMBER, TEXT = {"type": "integer"}, {"type": "string"}

RETRY_AFTER = {"Retry-After": {"schema": NUMBER, "description": "Seconds to wait."}}
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": (
        "RFC 9457. `type` is `urn:postjournal:problem:` and the problem's name. When commands were "
        "submitted, `outcome` is not_accepted or unknown. For a batch it is not_accepted only if "
        "none of its commands was or may be accepted; otherwise it is unknown, and `commands` has "
        "the outcome of each command."
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
        """Return status → response; problem types with the same status share a response."""
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
    """Return the schema of each type, and the components that the schemas refer to by name."""
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    return list(schemas), components


def ref(group: str, name: str) -> dict[str, str]:
    """Return a reference to a component; `group`: schemas, parameters or another such group."""
    return {"$ref": f"#/components/{group}/{name}"}


def obj(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object whose properties are all required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def body_of(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return a required request body; `schemas`: media type → schema."""
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    return {"required": True, "content": content}


def answer(description: str, schema: str | dict[str, Any]) -> dict[str, Any]:
    """Return a JSON response; `schema`: a component's name, or the schema itself."""
    found = ref("schemas", schema) if isinstance(schema, str) else schema
    return {"description": description, "content": {JSON: {"schema": found}}}


def health(problems: Problems, readiness: str) -> dict[str, Any]:
    """Return the paths `/livez` and `/readyz`; `readiness`: the summary of the latter."""
    live = answer("The process is live.", obj({"status": TEXT}))
    ready = answer("The service is ready.", obj({"status": TEXT}))
    unready = problems.of("unavailable")
    return {
        "/livez": {"get": {"summary": "The process is live", "responses": {"200": live}}},
        "/readyz": {"get": {"summary": readiness, "responses": {"200": ready, **unready}}},
    }
