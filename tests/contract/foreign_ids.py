"""Read from the OpenAPI document where requests take the ids of rows.

Every parameter and every field of a body is either known as a plain value or as an id of a kind of row. A place that is
neither raises UnknownPlace, so a new route cannot be left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]

# Other names of ids. Names that end in `_id` or `_ids` need no line here.
KINDS = {
    "contact": "contact",
    "exclude_group": "group",
    "group": "group",
    "member": "contact",
    "template": "template",
    "user": "user",
}
# Query parameters that name no row.
PLAIN = {
    *("page", "limit", "search", "phone", "status", "status_format", "direction"),
    *("date", "date_from", "date_to", "tz", "dry_run", "on_duplicate", "include_unknown"),
}
# Fields of one reference under two names. Two different values are a 400, so only one of them is filled.
ALIASES = {"contact": "contact_id", "group": "group_id", "template": "template_id"}


class UnknownPlace(AssertionError):
    """A request has a parameter or a field of which this module does not know what fills it."""


@dataclass(frozen=True)
class Place:
    """A path parameter, a query parameter or a field of the body that takes the id of a row, or several."""

    where: Literal["path", "query", "body"]
    name: str
    kind: str
    is_list: bool = False


@dataclass(frozen=True)
class Operation:
    """An operation of the document and the places of its ids."""

    method: str
    path: str
    has_json: bool
    places: tuple[Place, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations_of(document: Json) -> list[Operation]:
    """Return the operations for callers with a token. Raises UnknownPlace."""
    found = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation.get("security") != []:
                found.append(_operation(document, method.upper(), path, operation))
    return found


def _operation(document: Json, method: str, path: str, operation: Json) -> Operation:
    places: list[Place] = []
    for reference in operation.get("parameters", []):
        parameter = _resolve(document, reference)
        name = parameter["name"]
        if parameter["in"] == "path" or (parameter["in"] == "query" and name not in PLAIN):
            places.append(Place(parameter["in"], name, _kind(name, f"{method} {path}")))
    content = operation.get("requestBody", {}).get("content", {})
    for media_type, body in content.items():
        for name, schema in _fields(document, body["schema"]):
            place = _body_place(document, name, schema, f"{method} {path} ({media_type})")
            places += [place] if place else []
    return Operation(method, path, "application/json" in content, tuple(places))


def _body_place(document: Json, name: str, schema: Json, where: str) -> Place | None:
    """Return the place of a field, or None for a field that can hold no id."""
    types = set(_types(document, schema))
    if "integer" in types:
        return Place("body", name, _kind(name, where))
    if types & {"number", "object"} or not types:
        raise UnknownPlace(f"{where}: the type of the field {name} is not known")
    if "array" in types:
        if set(_types(document, schema["items"])) != {"integer"}:
            raise UnknownPlace(f"{where}: the items of the list {name} are not known")
        return Place("body", name, _kind(name, where), is_list=True)
    if name.endswith(("_id", "_ids")):
        raise UnknownPlace(f"{where}: the field {name} is not an integer")
    return None


def _kind(name: str, where: str) -> str:
    short = name.removesuffix("_ids").removesuffix("_id")
    if short == name and name not in KINDS:
        raise UnknownPlace(f"{where}: what fills {name}? Add it to KINDS or to PLAIN")
    return KINDS.get(short, short)


def _types(document: Json, schema: Json) -> Iterator[str]:
    schema = _resolve(document, schema)
    for choice in schema.get("anyOf", []):
        yield from _types(document, choice)
    given = schema.get("type", [])
    yield from [given] if isinstance(given, str) else given


def _fields(document: Json, schema: Json) -> Iterator[tuple[str, Json]]:
    yield from _resolve(document, schema).get("properties", {}).items()


def _resolve(document: Json, node: Json) -> Json:
    """Return the node that a reference names, or the node itself."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node
