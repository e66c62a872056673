"""Merge the services' OpenAPI documents into one. Pure functions on their JSON."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from gateway import openapi_errors as errors
from gateway.openapi_errors import Json
from gateway.routes import Route, find_route

_METHODS = ("get", "post", "put", "patch", "delete")
_DESCRIPTION = """\
Send SMS and MMS messages now or later, to one person or to a group, and manage contacts, groups and templates.

**Authentication.** Send a Clerk session token with an active organisation: `Authorization: Bearer …`. Requests see
only what belongs to this organisation. Ids of other organisations answer 404.

**Paths.** Every route also answers under `/api/v2/`, and without its trailing slash.

**Lists.** Use `page` (from 1) and `limit` (at most 50).

**Errors.** An error has `code` and `request_id`. It also has either `detail` or, for invalid fields, a list of messages
for each field. A typed client tells them apart by `"detail" in error`.

    {"phone": ["Enter an Australian mobile number."], "code": "invalid", "request_id": "…"}

**Headers.** Every answer has `X-Request-ID`. Routes with rate limits also have `RateLimit-Limit`,
`RateLimit-Remaining` and `RateLimit-Reset`, for the limit with the fewest requests left.

**Repeating a request.** Send an `Idempotency-Key` with each POST that creates or sends. A repeated request with the
same key then gets the first answer and has no second effect.

**Waiting for an outcome.** A send is answered with 202 as soon as it is accepted. With `Prefer: wait=10` the answer
comes when the outcome is known, after 10 seconds at the latest.
"""
# In the order of a person's work, which is the order of the document.
_TAGS = {
    "contacts": "People with a mobile number, their opt-outs, and the import of a CSV file.",
    "groups": "Groups of contacts, to send one message to all of them.",
    "templates": "Texts with placeholders, for messages that you write again and again.",
    "sending": "Send a message now, to a person or to a group. Preview its text, and upload a picture for an MMS.",
    "schedules": "Messages to one person: send them later, change or cancel them, and see their outcome.",
    "group schedules": "Messages to a group: send them later, change or cancel them, and see their outcome.",
    "messages": "Messages that were sent and received.",
    "stats": "Numbers of messages by month, and the monthly limits.",
    "configs": "Settings of the organisation, by name.",
    "users": "Members of the organisation. Clerk manages them, so they are read-only.",
    "webhooks": "Routes that Clerk and the providers call.",
    "health": "State of the system.",
    "docs": "This documentation.",
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


def merge(parts: Mapping[str, Json], today: date | None = None) -> Json:
    """Return the document of the whole API: its public routes with all errors, and the schemas of all services.

    Examples that have a `scheduled_time` get the day after `today`.
    """
    schemas: Json = dict(errors.SCHEMAS)
    paths: dict[str, Json] = {}
    for service, part in parts.items():
        own: Json = part.get("components", {}).get("schemas", {})
        renamed = _new_names(schemas, own, service)
        schemas |= {renamed.get(name, name): _rename(schema, renamed) for name, schema in own.items()}
        for path, item in part.get("paths", {}).items():
            if find_route(path) is not None:
                paths.setdefault(path, {}).update(_rename(item, renamed))
    _complete(paths, schemas, (today or datetime.now(UTC).date()) + timedelta(days=1))
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Cooee",
            "version": "2",
            "description": _DESCRIPTION,
        },
        "servers": [{"url": "/", "description": "this gateway"}],
        "security": [{"clerk": []}],
        "tags": [_described_tag(tag) for tag in sorted(_tags(paths), key=_place)],
        "paths": dict(sorted(paths.items(), key=lambda item: min(map(_place, _tags(dict([item])))))),
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
            "responses": {
                name: errors.response(status) for status, (name, _) in errors.RESPONSES.items() if status != "400"
            },
        },
    }
    document["components"]["schemas"] = referenced(schemas, document)
    return document


def _operations(paths: Mapping[str, Json]) -> Iterator[tuple[str, str, Json]]:
    for path, item in paths.items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _complete(paths: Mapping[str, Json], schemas: Json, next_day: date) -> None:
    """Complete each operation: a short unique id, a summary, its security, the idempotency key, and its errors."""
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
        operation["tags"] = operation.get("tags", [])[-1:]  # a route's own tag comes after that of its router
        route = find_route(path)
        assert route is not None
        if route.public:
            operation["security"] = []
        only_computes = operation.pop("x-without-effect", False)  # common.http.app explains this mark
        is_keyed = method == "post" and not route.public and not only_computes
        if is_keyed:
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/Idempotency-Key"})
        _summarise(operation)
        _describe_parameters(operation)
        _date_examples(operation, next_day)
        _add_errors(operation, route, is_keyed=is_keyed)
        if "400" in operation["responses"]:
            can_exceed = path.startswith("/api/sms/send")
            errors.add_bad_request(operation, schemas, keyed=is_keyed, can_exceed_limit=can_exceed)
        operation["responses"] = dict(sorted(operation["responses"].items()))


def _summarise(operation: Json) -> None:
    """Make the first sentence of an endpoint's docstring the summary, and leave the rest as the description."""
    first, *rest = re.split(r"[.]\s+", str(operation.pop("description", "")).strip(), maxsplit=1)
    if first:
        operation["summary"] = first.removesuffix(".")
    if rest:
        operation["description"] = rest[0]


def _describe_parameters(operation: Json) -> None:
    """Say of parameters what FastAPI cannot: lists are separated by commas, and no value is null."""
    for parameter in (one for one in operation.get("parameters", []) if "schema" in one):
        kinds = parameter["schema"].pop("anyOf", [])
        parameter["schema"] |= next((kind for kind in kinds if kind != {"type": "null"}), {})
        if parameter["schema"].get("type") == "array":
            parameter |= {"style": "form", "explode": False}


def _date_examples(operation: Json, next_day: date) -> None:
    """Move the `scheduled_time` of the example, so that a request with it is accepted."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        example = media.get("example", {})
        if "scheduled_time" in example:
            media["example"] = {**example, "scheduled_time": f"{next_day}T01:00:00Z"}


def _add_errors(operation: Json, route: Route, *, is_keyed: bool) -> None:
    """Add the errors that an operation can answer with, and the headers of its successful answers."""
    responses: Json = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # FastAPI's default; our services answer invalid requests with 400
    names = [name for name in _HEADERS if name != "Retry-After"] if route.counted else ["X-Request-ID"]
    for answer in (answer for status, answer in responses.items() if status.startswith("2")):
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        answer["headers"] = {**headers, **answer.get("headers", {})}
    for status in _error_statuses(operation, route, is_keyed=is_keyed):
        own = responses.setdefault(status, {"$ref": f"#/components/responses/{errors.RESPONSES[status][0]}"})
        if "content" in own:
            responses[status] = errors.or_error(own)
        elif "$ref" not in own:
            responses[status] = {**errors.response(status), **own}  # the service's description with the common schema


def _error_statuses(operation: Json, route: Route, *, is_keyed: bool) -> set[str]:
    parameters = operation.get("parameters", [])
    names = {str(parameter.get("name")) for parameter in parameters}
    locations = {parameter.get("in") for parameter in parameters}
    has_body = "requestBody" in operation
    statuses = {"431", "502", "503", "504"}
    statuses |= {"401", "403"} if not route.public else set()
    statuses |= {"429"} if route.counted else set()
    statuses |= {"404"} if has_body or "path" in locations or any(name.endswith("_id") for name in names) else set()
    statuses |= {"400"} if has_body or "query" in locations else set()
    statuses |= {"408", "413", "415"} if has_body else set()
    statuses |= {"409", "422", "400"} if is_keyed else set()
    return statuses | {status for status in operation["responses"] if status in errors.RESPONSES}


def _place(tag: str) -> int:
    return list(_TAGS).index(tag) if tag in _TAGS else len(_TAGS)


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


def referenced(schemas: Json, document: Json) -> Json:
    """Return the schemas that the document refers to, directly or through other schemas."""
    used: set[str] = set()
    pending = set(_refs(document))
    while pending:
        name = pending.pop()
        used.add(name)
        pending |= set(_refs(schemas.get(name))) - used
    return {name: schemas[name] for name in sorted(used) if name in schemas}
