"""The OpenAPI 3.1 description of the HTTP server."""

from __future__ import annotations

from typing import Any

from .. import __version__
from .api import INFO, Json, Limits, Operation, operations

__all__ = ["PREFIX", "description"]

PREFIX = "/v1"
"""Before the names of operations. What is below it keeps its meaning; a change that breaks clients gets a /v2."""

_ERROR: Json = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "description": "The class of the error, such as WhereError."},
                "message": {"type": "string"},
                "position": {"type": "integer", "description": "Of a condition: the character that it is about."},
            },
            "required": ["kind", "message"],
        }
    },
    "required": ["error"],
}
_READ_ERRORS = {
    "400": "not JSON, or not as described here",
    "401": "the token is missing or wrong",
    "404": "there is no such record",
    "408": "the body did not arrive in time",
    "413": "the body is too large",
    "415": "the body is not application/json",
    "421": "the Host header names another server",
    "422": "the collection refuses a value",
    "500": "a fault of the server",
    "503": "busy, or the file cannot be read; try again later",
}
_WRITE_ERRORS = {"403": "the server is read-only", "507": "no memory or disk is left for it"}


def description(limits: Limits, *, writable: bool, token: bool) -> Json:
    """The document, without operations that this server does not offer."""
    paths: Json = {
        "/health": {"get": _entry("health", "Whether the collection answers", _object({"status": {"type": "string"}}))},
        f"{PREFIX}/info": {"get": _entry("info", "What the collection is", _object(INFO))},
    }
    for name, operation in operations(limits).items():
        if writable or not operation.writes:
            paths[f"{PREFIX}/{name}"] = {"post": _post(name, operation)}
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "An edgevec collection", "version": __version__, "license": _LICENSE},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        paths["/health"]["get"]["security"] = []
    return document


_LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def _entry(name: str, summary: str, answer: Json, errors: dict[str, str] | None = None) -> Json:
    failures: dict[str, Any] = {
        code: {
            "description": why,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for code, why in sorted((errors or {code: _READ_ERRORS[code] for code in ("401", "421", "503")}).items())
    }
    done = {"description": "The answer", "content": {"application/json": {"schema": answer}}}
    return {"operationId": name, "summary": summary, "responses": {"200": done, **failures}}


def _post(name: str, operation: Operation) -> Json:
    errors = _READ_ERRORS | _WRITE_ERRORS if operation.writes else _READ_ERRORS
    schema: Json = _object(operation.fields, operation.required) | {"additionalProperties": False}
    always = tuple(field for field in operation.answer if field not in operation.sometimes)
    entry = _entry(name, operation.summary, _object(operation.answer, always), errors)
    body = {"required": bool(operation.required), "content": {"application/json": {"schema": schema}}}
    return entry | {"requestBody": body}


def _object(properties: Json, required: tuple[str, ...] | None = None) -> Json:
    made: Json = {"type": "object", "properties": properties}
    if required != ():
        made["required"] = list(properties if required is None else required)
    return made
