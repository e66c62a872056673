"""Describe the API of v1: today's OpenAPI document, changed by the table of names. A pure function on JSON."""

import re
from typing import Any

from gateway.openapi import referenced
from gateway.openapi_errors import Json
from gateway.v1.names import PATHS, PREFIX, ROWS, STATUSES, V1_ROWS, Path, to_v1

_DESCRIPTION = """\
The API as clients of v1 know it. It is deprecated: new clients use the paths below `/api/`, which `/api/schema/`
describes. Answers have the headers `Deprecation` and `Sunset` when these times are set.

Names are in camelCase, lists are in `data`, and schedules have the statuses `PENDING`, `SENT`, `FAILED` and `DELETED`.
Errors have `error`, and invalid requests also have `errors`. Unknown fields are ignored.
"""
_DROPPED = ("status_format",)
_ADDED_TO_ERRORS: Json = {
    "error": {"type": "string", "description": "a sentence for a person"},
    "errors": {
        "type": "array",
        "description": "in an invalid request: an entry for each message",
        "items": {
            "type": "object",
            "required": ["field", "message"],
            "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}


def describe_v1(document: Json) -> Json:
    """Return the document of v1 for the document of today. Every operation is deprecated."""
    items = {_template(path): item for path, item in document["paths"].items()}
    paths = {PREFIX + row.v1: _describe_path(row, items[row.today]) for row in PATHS if row.today in items}
    schemas = {
        name: _add_errors(name, _rename_schema(schema)) for name, schema in document["components"]["schemas"].items()
    }
    used = {tag for item in paths.values() for operation in item.values() for tag in operation["tags"]}
    described: Json = {
        **document,
        "info": {**document["info"], "version": "1", "description": _DESCRIPTION},
        "tags": [tag for tag in document["tags"] if tag["name"] in used],
        "paths": paths,
        "components": {**document["components"], "responses": _rename_schema(document["components"]["responses"])},
    }
    described["components"]["schemas"] = {}
    described["components"]["schemas"] = referenced(schemas, described)
    return described


def _template(path: str) -> str:
    return re.sub(r"\{\w+\}", "{id}", path)


def _describe_path(row: Path, item: Json) -> Json:
    return {method: _describe_operation(row, operation) for method, operation in item.items()}


def _describe_operation(row: Path, operation: Json) -> Json:
    parameters = [
        _describe_parameter(row, parameter)
        for parameter in operation.get("parameters", [])
        if parameter.get("name") not in _DROPPED
    ]
    described: Json = _rename_schema({name: value for name, value in operation.items() if name != "parameters"})
    described |= {"operationId": "v1_" + operation["operationId"], "deprecated": True}
    return {**described, "parameters": parameters} if parameters else described


def _describe_parameter(row: Path, parameter: Json) -> Json:
    if parameter.get("in") == "path":
        return {**parameter, "name": "id"}
    if parameter.get("in") != "query":
        return parameter
    described: Json = {**parameter, "name": to_v1(parameter["name"]), "schema": _rename_schema(parameter["schema"])}
    if parameter["name"] == "limit" and row.limit:
        described["schema"]["default"] = row.limit
    return described


def _rename_schema(node: Any) -> Any:
    """Return a part of the document with the names and the statuses of v1."""
    if isinstance(node, list):
        return [_rename_schema(value) for value in node]
    if not isinstance(node, dict):
        return node
    renamed: Json = {}
    for key, value in node.items():
        if key == "properties":
            renamed[key] = _rename_properties(value)
        elif key == "required" and isinstance(value, list):
            renamed[key] = [_name(name, node.get("properties", {}).get(name)) for name in value]
        elif key == "enum" and isinstance(value, list):
            renamed[key] = _rename_statuses(value)
        elif key in ("example", "examples", "default"):
            renamed[key] = _rename_example(value)
        else:
            renamed[key] = _rename_schema(value)
    return renamed


def _rename_properties(properties: Json) -> Json:
    """Rename properties. A second name of a reference, such as `contact_id` beside `contact`, is left out."""
    return {
        _name(name, schema): _rename_schema(schema)
        for name, schema in properties.items()
        if not (name.endswith("_id") and name.removesuffix("_id") in properties)
    }


def _name(name: str, schema: Any) -> str:
    return V1_ROWS if name == ROWS and isinstance(schema, dict) and schema.get("type") == "array" else to_v1(name)


def _rename_statuses(names: list[Any]) -> list[Any]:
    """Return the names of v1 for an enum of the statuses of schedules. Every other enum stays."""
    known = {*STATUSES, *STATUSES.values()}
    if not set(names) <= known or not set(names) & {"pending", "PENDING"}:
        return names
    return list(dict.fromkeys(STATUSES.get(name, name) for name in names))


def _rename_example(node: Any) -> Any:
    if isinstance(node, list):
        return [_rename_example(value) for value in node]
    if not isinstance(node, dict):
        return node
    return {
        V1_ROWS if key == ROWS and isinstance(value, list) else to_v1(key): (
            STATUSES.get(value, value) if key == "status" and isinstance(value, str) else _rename_example(value)
        )
        for key, value in node.items()
    }


def _add_errors(name: str, schema: Json) -> Json:
    if name not in ("Error", "LimitExceeded") and not name.endswith("Errors"):
        return schema
    added = _ADDED_TO_ERRORS if name.endswith("Errors") else {"error": _ADDED_TO_ERRORS["error"]}
    return {**schema, "properties": {**added, **schema["properties"]}, "required": [*added, *schema["required"]]}
