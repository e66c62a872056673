"""Merge the services' OpenAPI documents into one. Pure functions on their JSON."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.routes import find_route

Json = dict[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")
_DESCRIPTION = """\
Send SMS and MMS messages now or later, to one person or to a group, and manage contacts, groups and templates.

**Authentication.** Send a Clerk session token with an active organisation: `Authorization: Bearer …`. Requests see
only what belongs to this organisation. Ids of other organisations answer 404.

**Paths.** Every route also answers under `/api/v2/`, and without its trailing slash.

**Lists.** Use `page` (from 1) and `limit` (at most 50).

**Errors.** An error has `code` and `request_id`. It also has `detail` or, for invalid fields, a list of messages for
each field: `{"phone": ["Enter an Australian mobile number."], "code": "invalid", "request_id": "…"}`.

**Headers.** Every answer has `X-Request-ID`. Routes with rate limits also have `RateLimit-Limit`,
`RateLimit-Remaining` and `RateLimit-Reset`, for the limit with the fewest requests left.

**Repeating a request.** Send an `Idempotency-Key` with each POST that creates or sends. A repeated request with the
same key then gets the first answer and has no second effect.

**Waiting for an outcome.** A send is answered with 202 as soon as it is accepted. With `Prefer: wait=10` the answer
comes when the outcome is known, after 10 seconds at the latest.
"""
_TAGS = {
    "configs": "Settings of the organisation, by name.",
    "contacts": "People with a mobile number, their opt-outs, and the import of a CSV file.",
    "docs": "This documentation.",
    "group schedules": "Sends to a group, now or later, and the messages to its members.",
    "groups": "Groups of contacts.",
    "health": "State of the system.",
    "messages": "Messages that were sent and received.",
    "schedules": "Messages to one person: when they are sent, and what their outcome is.",
    "sending": "Send a message to a person or to a group, preview a text, and upload an image for an MMS.",
    "stats": "Numbers of messages by month.",
    "templates": "Texts with placeholders for repeated use.",
    "users": "Members of the organisation. Clerk manages them, so they are read-only.",
    "webhooks": "Routes that Clerk and the providers call.",
}
_ERRORS = {
    "400": ("BadRequest", "The request is not valid.", "ValidationErrors"),
    "401": ("Unauthenticated", "The token is missing or not valid.", "Error"),
    "403": ("Forbidden", "The token has no active organisation, or the user lacks a permission.", "Error"),
    "404": ("NotFound", "There is no object with this id in the organisation.", "Error"),
    "408": ("RequestTimeout", "The body did not arrive in time. Send the request again.", "Error"),
    "409": (
        "InProgress",
        "The first request with this `Idempotency-Key` is still running. Repeat the request later.",
        "Error",
    ),
    "413": ("TooLarge", "The body is too large.", "Error"),
    "415": ("UnsupportedMediaType", "The route does not accept this media type.", "Error"),
    "422": ("IdempotencyMismatch", "The `Idempotency-Key` was used with another body.", "Error"),
    "429": ("Throttled", "Too many requests. Try again after `Retry-After` seconds.", "Error"),
    "431": ("HeadersTooLarge", "The address or the headers of the request are too large.", "Error"),
    "502": ("BadGateway", "The service behind this route cannot be reached.", "Error"),
    "503": ("Unavailable", "A part of the system is not available.", "Error"),
    "504": ("GatewayTimeout", "The service behind this route did not answer in time.", "Error"),
}
# The shared route class of all services accepts this header, so the services' own documents do not have it.
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": (
        "Any unique text, such as a UUID. Within 24 hours, a repeated request with the same key and body gets the first"
        " answer and has no second effect."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
}
_HEADERS = {
    "X-Request-ID": ("Id of this request. Quote it when you report a problem.", "string"),
    "RateLimit-Limit": (
        "Requests that the limit allows in its period. Of several limits, the one with the fewest requests left.",
        "integer",
    ),
    "RateLimit-Remaining": ("Requests that are left.", "integer"),
    "RateLimit-Reset": ("Seconds until more requests are allowed.", "integer"),
    "Retry-After": ("Seconds to wait before the next request.", "integer"),
}
_CODES = [
    "not_authenticated",
    "authentication_failed",
    "permission_denied",
    "not_found",
    "method_not_allowed",
    "unsupported_media_type",
    "parse_error",
    "invalid",
    "request_timeout",
    "too_large",
    "headers_too_large",
    "throttled",
    "in_progress",
    "idempotency_mismatch",
    "limit_exceeded",
    "opted_out",
    "schedule_not_pending",
    "no_recipients",
    "unavailable",
    "error",
]
_CODE = {"type": "string", "enum": _CODES}
_REQUEST_ID = {"type": "string"}
_SCHEMAS: Json = {
    "Error": {
        "type": "object",
        "title": "Error",
        "required": ["detail", "code", "request_id"],
        "properties": {"detail": {"type": "string"}, "code": _CODE, "request_id": _REQUEST_ID},
        "examples": [{"detail": "Not found.", "code": "not_found", "request_id": "0198f2c4e7d67c7d9a2f"}],
    },
    "ValidationErrors": {
        "title": "ValidationErrors",
        "description": "Messages for each invalid field. An error that is not about a field has `detail` instead.",
        "type": "object",
        "required": ["code", "request_id"],
        "properties": {
            "detail": {"type": "string"},
            "code": _CODE,
            "request_id": _REQUEST_ID,
            "remaining": {"type": "integer", "description": "with `limit_exceeded`: parts that are left this month"},
            "required": {"type": "integer", "description": "with `limit_exceeded`: parts that the send needs"},
            "limit": {
                "anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}],
                "description": "with `limit_exceeded`: parts allowed each month; else messages for the field `limit`",
            },
        },
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
        "examples": [{"phone": ["Enter an Australian mobile number."], "code": "invalid", "request_id": "0198f2c4e7"}],
    },
}


def merge(parts: Mapping[str, Json]) -> Json:
    """Return the document of the whole API: its public routes with all errors, and the schemas of all services."""
    schemas: Json = dict(_SCHEMAS)
    paths: dict[str, Json] = {}
    for service, part in parts.items():
        own: Json = part.get("components", {}).get("schemas", {})
        renamed = _new_names(schemas, own, service)
        schemas |= {renamed.get(name, name): _rename(schema, renamed) for name, schema in own.items()}
        for path, item in part.get("paths", {}).items():
            if find_route(path) is not None:
                paths.setdefault(path, {}).update(_rename(item, renamed))
    _complete(paths)
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "Cooee", "version": "2", "description": _DESCRIPTION},
        "servers": [{"url": "/", "description": "this gateway"}],
        "security": [{"clerk": []}],
        "tags": [_described_tag(tag) for tag in sorted(_tags(paths))],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "clerk": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Clerk session token with an active organisation",
                }
            },
            "parameters": {"Idempotency-Key": _IDEMPOTENCY_KEY},
            "headers": {
                name: {"description": text, "schema": {"type": kind}} for name, (text, kind) in _HEADERS.items()
            },
            "responses": {name: _response(status) for status, (name, _, _) in _ERRORS.items()},
        },
    }
    document["components"]["schemas"] = _referenced(schemas, document)
    return document


def _response(status: str) -> Json:
    _, description, schema = _ERRORS[status]
    answer: Json = {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    headers = ["X-Request-ID", *(["Retry-After"] if status == "429" else [])]
    return {**answer, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers}}


def _operations(paths: Mapping[str, Json]) -> Iterator[tuple[str, str, Json]]:
    for path, item in paths.items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _complete(paths: Mapping[str, Json]) -> None:
    """Add to each operation a short unique id, its security, the idempotency key, and the errors that all share."""
    used: set[str] = set()
    for path, method, operation in _operations(paths):
        suffix = re.sub(r"\W", "_", path) + "_" + method
        given = str(operation.get("operationId", method + suffix))
        short = given.removesuffix(suffix) or given
        operation["operationId"] = given if short in used else short
        used.add(operation["operationId"])
        operation.pop("security", None)
        if method == "patch":
            operation.get("requestBody", {}).pop("required", None)  # without a body, nothing changes
        route = find_route(path)
        assert route is not None
        if route.public:
            operation["security"] = []
        only_computes = operation.pop("x-without-effect", False)  # common.http.app explains this mark
        if method == "post" and not route.public and not only_computes:
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/Idempotency-Key"})
        _add_errors(operation, public=route.public, counted=route.counted)


def _add_errors(operation: Json, *, public: bool, counted: bool) -> None:
    """Add the errors that an operation can answer with, and the headers of its successful answers."""
    responses: Json = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # FastAPI's default; our services answer invalid requests with 400
    parameters = operation.get("parameters", [])
    names = {str(parameter.get("name")) for parameter in parameters}
    locations = {parameter.get("in") for parameter in parameters}
    has_body = "requestBody" in operation
    statuses = ["431", "502", "503", "504"]
    statuses += ["401", "403"] if not public else []
    statuses += ["429"] if counted else []
    statuses += ["404"] if has_body or "path" in locations or any(name.endswith("_id") for name in names) else []
    statuses += ["400"] if has_body or "query" in locations else []
    statuses += ["408", "413", "415"] if has_body else []
    statuses += ["409", "422", "400"] if {"$ref": "#/components/parameters/Idempotency-Key"} in parameters else []
    statuses += [status for status, answer in responses.items() if status in _ERRORS and "content" not in answer]
    for status, answer in responses.items():
        if status.startswith("2"):
            headers = answer.setdefault("headers", {})
            for name in ("X-Request-ID", *(_HEADERS if counted else ())):
                if name != "Retry-After":
                    headers.setdefault(name, {"$ref": f"#/components/headers/{name}"})
    for status in statuses:
        own = responses.setdefault(status, {"$ref": f"#/components/responses/{_ERRORS[status][0]}"})
        if not own.keys() & {"$ref", "content"}:
            responses[status] = {**_response(status), **own}  # the service's description with the common schema
    operation["responses"] = dict(sorted(responses.items()))


def _described_tag(tag: str) -> Json:
    return {"name": tag, "description": _TAGS[tag]} if tag in _TAGS else {"name": tag}


def _tags(paths: Mapping[str, Json]) -> set[str]:
    return {tag for _, _, operation in _operations(paths) for tag in operation.get("tags", [])}


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/components/schemas/"):
            yield reference.rpartition("/")[2]
        for value in node.values():
            yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


def _new_names(known: Json, own: Json, service: str) -> dict[str, str]:
    """Return new names for schemas of a service that have the name of another service's different schema.

    A schema is also different when a schema that it refers to is.
    """
    different = {name for name, schema in own.items() if name in known and known[name] != schema}
    while True:
        touched = {n for n, s in own.items() if n in known and n not in different and different & set(_refs(s))}
        if not touched:
            return {name: service.capitalize() + name for name in different}
        different |= touched


def _rename(node: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        copy = {key: _rename(value, renamed) for key, value in node.items()}
        reference = copy.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/components/schemas/"):
            name = reference.rpartition("/")[2]
            copy["$ref"] = "#/components/schemas/" + renamed.get(name, name)
        return copy
    return [_rename(value, renamed) for value in node] if isinstance(node, list) else node


def _referenced(schemas: Json, document: Json) -> Json:
    """Return the schemas that the document refers to, directly or through other schemas."""
    used: set[str] = set()
    pending = set(_refs(document))
    while pending:
        name = pending.pop()
        used.add(name)
        pending |= set(_refs(schemas.get(name))) - used
    return {name: schemas[name] for name in sorted(used) if name in schemas}
