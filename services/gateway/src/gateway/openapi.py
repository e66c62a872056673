"""One OpenAPI document out of the services' own: pure functions over their JSON."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.routes import find_route

Json = dict[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")
_DESCRIPTION = """\
Contacts, groups, templates, schedules and sends of SMS and MMS.

Every request carries a Clerk session token (`Authorization: Bearer …`) with an active organisation; what belongs to
another organisation does not exist (404). The same routes answer under `/api/v2/`, and without their trailing slash.
Lists take `page` and `limit` (50 at most). Errors are `{"detail"}` or, for validation, `{"field": ["message"]}`, both
with `code` and `request_id`. Every answer has `X-Request-ID` and the `RateLimit-…` headers of the tightest limit.
POSTs that send or create take an `Idempotency-Key`; sends take `Prefer: wait=N`.
"""
_ERRORS = {
    "400": ("BadRequest", "The request is not valid.", "ValidationErrors"),
    "401": ("Unauthenticated", "The token is missing or not valid.", "Error"),
    "403": ("Forbidden", "No active organisation, or a permission is lacking.", "Error"),
    "404": ("NotFound", "It does not exist in this organisation.", "Error"),
    "409": ("InProgress", "The same request, by its `Idempotency-Key`, is being worked on.", "Error"),
    "413": ("TooLarge", "The body is too large.", "Error"),
    "415": ("UnsupportedMediaType", "The body has another media type than this route takes.", "Error"),
    "422": ("IdempotencyMismatch", "The `Idempotency-Key` was used for another body.", "Error"),
    "429": ("Throttled", "Too many requests; `Retry-After` says when to try again.", "Error"),
    "502": ("BadGateway", "The service behind this route cannot be reached.", "Error"),
    "503": ("Unavailable", "A part of the system is not available.", "Error"),
    "504": ("GatewayTimeout", "The service behind this route did not answer in time.", "Error"),
}
# Every service takes it on every POST, before its routes: common's routes, not theirs, know of it.
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Kept for 24 hours with the first answer, which is given again for the same body.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
}
_HEADERS = {
    "X-Request-ID": ("The id of this request, in the logs of every service.", "string"),
    "RateLimit-Limit": ("Requests allowed by the tightest limit.", "integer"),
    "RateLimit-Remaining": ("Requests left of it.", "integer"),
    "RateLimit-Reset": ("Seconds until more are allowed.", "integer"),
    "Retry-After": ("Seconds to wait.", "integer"),
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
    "too_large",
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
        "description": "By field; `detail` instead of fields when the error is about none.",
        "type": "object",
        "required": ["code", "request_id"],
        "properties": {
            "detail": {"type": "string"},
            "code": _CODE,
            "request_id": _REQUEST_ID,
            "remaining": {"type": "integer", "description": "with `limit_exceeded`"},
            "required": {"type": "integer", "description": "with `limit_exceeded`"},
            "limit": {
                "anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}],
                "description": "a number with `limit_exceeded`; else what is wrong with the field `limit`",
            },
        },
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
        "examples": [{"phone": ["Enter an Australian mobile number."], "code": "invalid", "request_id": "0198f2c4e7"}],
    },
}


def merge(parts: Mapping[str, Json]) -> Json:
    """The document of the whole API: public routes only, one namespace of schemas, errors told on every route."""
    schemas: Json = dict(_SCHEMAS)
    paths: dict[str, Json] = {}
    for service, part in parts.items():
        own: Json = part.get("components", {}).get("schemas", {})
        renamed = _collisions(schemas, own, service)
        schemas |= {renamed.get(name, name): _rename(schema, renamed) for name, schema in own.items()}
        for path, item in part.get("paths", {}).items():
            if find_route(path) is not None:
                paths.setdefault(path, {}).update(_rename(item, renamed))
    _finish(paths)
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "Cooee", "version": "2", "description": _DESCRIPTION},
        "servers": [{"url": "/", "description": "this gateway"}],
        "security": [{"clerk": []}],
        "tags": [{"name": tag} for tag in sorted(_tags(paths))],
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
    document["components"]["schemas"] = _used(schemas, document)
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


def _finish(paths: Mapping[str, Json]) -> None:
    """Short unique operation ids, security, and the errors that the edge and every service have in common."""
    taken: set[str] = set()
    for path, method, operation in _operations(paths):
        suffix = re.sub(r"\W", "_", path) + "_" + method
        given = str(operation.get("operationId", method + suffix))
        short = given.removesuffix(suffix) or given
        operation["operationId"] = given if short in taken else short
        taken.add(operation["operationId"])
        operation.pop("security", None)
        route = find_route(path)
        assert route is not None
        if route.public:
            operation["security"] = []
        only_computes = operation.pop("x-without-effect", False)  # the service's word: see common.http.app
        if method == "post" and not route.public and not only_computes:
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/Idempotency-Key"})
        _add_errors(operation, public=route.public, counted=route.counted)


def _add_errors(operation: Json, *, public: bool, counted: bool) -> None:
    responses: Json = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # FastAPI's own shape; what does not fit is told as 400
    parameters = operation.get("parameters", [])
    names = {str(parameter.get("name")) for parameter in parameters}
    places = {parameter.get("in") for parameter in parameters}
    has_body = "requestBody" in operation
    statuses = ["502", "503", "504"]
    statuses += ["401", "403"] if not public else []
    statuses += ["429"] if counted else []
    statuses += ["404"] if has_body or "path" in places or any(name.endswith("_id") for name in names) else []
    statuses += ["400"] if has_body or "query" in places else []
    statuses += ["413", "415"] if has_body else []
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
            responses[status] = {**_response(status), **own}  # the service's words, the shape of all errors
    operation["responses"] = dict(sorted(responses.items()))


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


def _collisions(known: Json, own: Json, service: str) -> dict[str, str]:
    """New names for schemas that mean something else in another service, themselves or in what they refer to."""
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


def _used(schemas: Json, document: Json) -> Json:
    used: set[str] = set()
    waiting = set(_refs(document))
    while waiting:
        name = waiting.pop()
        used.add(name)
        waiting |= set(_refs(schemas.get(name))) - used
    return {name: schemas[name] for name in sorted(used) if name in schemas}
