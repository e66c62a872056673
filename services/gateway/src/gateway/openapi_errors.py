"""The errors of the API document: their schemas, and the errors that each operation can answer with.

The schemas are a union that a typed client can narrow: a body with `detail`, or messages for the fields that the
operation has. Fields that every operation could have would be a map, whose type contradicts that of `code`.
"""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_NOT_FIELDS = ("detail", "code", "request_id")
# Status → the name of its response in the document, and its description. The schemas of 400 differ by operation.
RESPONSES = {
    "400": ("BadRequest", "The request is not valid."),
    "401": ("Unauthenticated", "The token is missing or not valid."),
    "403": ("Forbidden", "The token has no active organisation, or the user lacks a permission."),
    "404": ("NotFound", "There is no object with this id in the organisation."),
    "408": ("RequestTimeout", "The body did not arrive in time. Send the request again."),
    "409": (
        "InProgress",
        "The first request with this `Idempotency-Key` is still running. Repeat the request later.",
    ),
    "413": ("TooLarge", "The body is too large."),
    "415": ("UnsupportedMediaType", "The route does not accept this media type."),
    "422": ("IdempotencyMismatch", "The `Idempotency-Key` was used with another body."),
    "429": ("Throttled", "Too many requests. Try again after `Retry-After` seconds."),
    "431": ("HeadersTooLarge", "The address or the headers of the request are too large."),
    "502": ("BadGateway", "The service behind this route cannot be reached."),
    "503": ("Unavailable", "A part of the system is not available."),
    "504": ("GatewayTimeout", "The service behind this route did not answer in time."),
}
_CODES = [
    "invalid",
    "parse_error",
    "no_recipients",
    "schedule_not_pending",
    "not_authenticated",
    "authentication_failed",
    "permission_denied",
    "not_found",
    "method_not_allowed",
    "in_progress",
    "request_timeout",
    "too_large",
    "unsupported_media_type",
    "idempotency_mismatch",
    "throttled",
    "headers_too_large",
    "unavailable",
    "error",
]
_FIELD_CODES = ["invalid", "opted_out"]
_REQUEST_ID: Json = {"type": "string", "description": "id of the request, for support"}
_MESSAGES: Json = {"type": "array", "items": {"type": "string"}}
_ERROR = {"$ref": "#/components/schemas/Error"}
_ID = "0198f2c4e7d67c7d9a2f"
SCHEMAS: Json = {
    "Error": {
        "type": "object",
        "title": "Error",
        "description": "An error that is about no field. `detail` is a sentence for a person.",
        "required": ["detail", "code", "request_id"],
        "properties": {
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": _CODES},
            "request_id": _REQUEST_ID,
        },
        "examples": [{"detail": "Not found.", "code": "not_found", "request_id": _ID}],
    },
    "LimitExceeded": {
        "type": "object",
        "title": "LimitExceeded",
        "description": "The monthly limit has no room for the whole send.",
        "required": ["detail", "code", "request_id", "remaining", "required", "limit"],
        "properties": {
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": ["limit_exceeded"]},
            "request_id": _REQUEST_ID,
            "remaining": {"type": "integer", "description": "parts (MMS: messages) that are left this month"},
            "required": {"type": "integer", "description": "parts (MMS: messages) that the send needs"},
            "limit": {"type": "integer", "description": "parts (MMS: messages) allowed each month"},
        },
    },
}


def response(status: str) -> Json:
    """Return the response of a status whose body is always an Error."""
    headers = ["X-Request-ID", *(["Retry-After"] if status == "429" else [])]
    return {
        "description": RESPONSES[status][1],
        "content": {"application/json": {"schema": dict(_ERROR)}},
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
    }


def add_bad_request(operation: Json, schemas: Json, *, keyed: bool, can_exceed_limit: bool) -> None:
    """Give an operation its response 400, and add the schema of its field errors to `schemas`."""
    name = "".join(word.capitalize() for word in operation["operationId"].split("_")) + "Errors"
    names = [*_body_fields(operation, schemas), *_query_fields(operation), *(["Idempotency-Key"] if keyed else [])]
    schemas[name] = _field_errors(name, names)
    own = operation["responses"].get("400", {})
    union = [{"$ref": f"#/components/schemas/{name}"}, dict(_ERROR)]
    if can_exceed_limit:
        union.append({"$ref": "#/components/schemas/LimitExceeded"})
    content = {"application/json": {"schema": {"anyOf": union}}}
    description = own.get("description", RESPONSES["400"][1])
    operation["responses"]["400"] = {**response("400"), "description": description, "content": content}


def or_error(own: Json) -> Json:
    """Return a service's own response of an error, to which the error of the gateway is added."""
    content = {
        kind: {**media, "schema": {"anyOf": [media.get("schema", {}), dict(_ERROR)]}}
        for kind, media in own["content"].items()
    }
    return {**own, "content": content}


def _field_errors(name: str, names: list[str]) -> Json:
    fields = {field: _MESSAGES for field in dict.fromkeys(names) if field not in _NOT_FIELDS}
    return {
        "type": "object",
        "title": name,
        "description": "Messages for each invalid field. `non_field_errors` are about the whole body.",
        "required": ["code", "request_id"],
        "properties": {
            **fields,
            "non_field_errors": _MESSAGES,
            "code": {"type": "string", "enum": _FIELD_CODES},
            "request_id": _REQUEST_ID,
        },
    }


def _body_fields(operation: Json, schemas: Mapping[str, Json]) -> list[str]:
    names: list[str] = []
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = media.get("schema", {})
        target = schemas.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
        names += target.get("properties", {})
    return names


def _query_fields(operation: Json) -> list[str]:
    return [parameter["name"] for parameter in operation.get("parameters", []) if parameter.get("in") == "query"]
