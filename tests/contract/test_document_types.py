"""The types of the API document are those that the API reads and answers, and its examples work."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_schema_validator import oas31_format_checker

import contacts.errors
import delivery.errors
import scheduling.errors
from common.errors import AppError
from tests.conftest import Client, ClientOf

from .test_routes import Tenant, furnish, phone, soon

pytestmark = pytest.mark.stack

Json = dict[str, Any]
SERVICES = (contacts.errors, delivery.errors, scheduling.errors)
TEXTS = {"search", "phone", "tz"}  # query parameters that are free texts
OPTIONAL = {
    ("ImportReport", "updated"),
    *(("ServiceHealth", name) for name in ("detail", "dependencies", "lag", "providers")),
    *(("ProviderHealth", name) for name in ("failure_category", "since")),
}


@pytest.fixture(scope="module")
async def document(client_of: ClientOf) -> Json:
    """Return the OpenAPI document."""
    found: Json = (await client_of(None)("GET", "/api/schema/")).body
    return found


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def reachable(document: Json, node: Any) -> dict[str, Json]:
    """Return the schemas that a part of the document refers to, directly or through others."""
    found: dict[str, Json] = {}
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, list):
            pending += one
        elif isinstance(one, dict):
            pending += one.values()
            reference = str(one.get("$ref", ""))
            name = reference.rpartition("/")[2] if "/schemas/" in reference else ""
            if name and name not in found:
                found[name] = document["components"]["schemas"][name]
                pending.append(found[name])
    return found


def answers(document: Json) -> Json:
    return {f"{m} {p}": [o["responses"][s] for s in o["responses"] if s[0] == "2"] for m, p, o in operations(document)}


def test_request_bodies_have_no_defaults(document: Json) -> None:
    """A generated client fills defaults in: a PATCH would then empty every field that it does not name."""
    bodies = [operation.get("requestBody", {}) for _, _, operation in operations(document)]
    schemas = reachable(document, bodies)
    assert {"ContactCreate", "ContactPatch", "TemplateCreate", "ScheduleUpdate", "ConfigUpdate"} <= schemas.keys()
    for name, schema in schemas.items():
        assert [field for field, value in schema["properties"].items() if "default" in value] == [], name


def test_answers_have_all_of_their_fields(document: Json) -> None:
    for name, schema in reachable(document, answers(document)).items():
        absent = schema.get("properties", {}).keys() - set(schema.get("required", []))
        assert {(name, field) for field in absent} <= OPTIONAL, name


def test_query_parameters_have_their_types(document: Json) -> None:
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter.get("in") != "query" or parameter["name"] in TEXTS:
                continue
            schema, where = parameter["schema"], (method, path, parameter["name"])
            named = "enum" in schema or schema.get("items", {}).keys() & {"enum", "anyOf"}
            assert named or schema.get("type") in ("integer", "boolean") or schema.get("format") == "date", where
            if schema.get("type") == "array":
                assert (parameter["style"], parameter["explode"]) == ("form", False), where


def test_times_have_their_format_and_statuses_their_names(document: Json) -> None:
    for name, schema in reachable(document, answers(document)).items():
        for field, value in schema.get("properties", {}).items():
            kinds = [value, *value.get("anyOf", [])]
            if re.search(r"(_time|_at|^time)$", field):
                assert any(kind.get("format") == "date-time" for kind in kinds), (name, field)
            if field in ("status", "direction", "format", "failure_category", "encoding", "opt_out_source"):
                is_named = any(kind.keys() & {"enum", "$ref", "const"} for kind in kinds)
                assert is_named or (name, field) == ("ImportReport", "encoding"), (name, field)


def subclasses(of: type[AppError]) -> Iterator[type[AppError]]:
    yield of
    for kind in of.__subclasses__():
        yield from subclasses(kind)


def test_document_has_the_code_of_every_error(document: Json) -> None:
    """Import the errors of all services, because only then their classes are known."""
    assert len(SERVICES) == 3
    schemas = document["components"]["schemas"]
    union = [schemas[name]["properties"]["code"]["enum"] for name in ("Error", "LimitExceeded", "SendErrors")]
    known = {code for codes in union for code in codes}
    assert {kind.code for kind in subclasses(AppError)} <= known


def check(document: Json, schema: Json, body: Any, where: str) -> None:
    validator = Draft202012Validator(
        {**schema, "components": document["components"]}, format_checker=oas31_format_checker
    )
    problems = [f"{where}: {error.json_path}: {error.message}" for error in validator.iter_errors(body)]
    assert problems == []


def schema_of(operation: Json, status: int, document: Json) -> Json:
    answer = operation["responses"][str(status)]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    found: Json = answer["content"]["application/json"]["schema"]
    return found


@pytest.fixture(scope="module")
async def tenant(client_of: ClientOf) -> Tenant:
    """Return an organisation with rows of each kind, also with a sent message and null values."""
    made = await furnish(client_of("org_types", "admin"))
    await made.call("POST", "/api/schedules/", {"text": "x", "phone": phone(), "scheduled_time": soon(), "name": "N"})
    waiting = {"Prefer": "wait=20"}
    sent = await made.call("POST", "/api/sms/send/", {"message": "x", "recipient": phone()}, headers=waiting)
    assert sent.status == 200, sent
    return made


@pytest.mark.parametrize("query", ["", "?status_format=v1"])
async def test_what_is_rendered_is_valid(document: Json, tenant: Tenant, query: str) -> None:
    """Routes that render without response models must still answer as the document says, in both names of statuses."""
    for method, path, operation in operations(document):
        if method == "GET" and operation["tags"] != ["docs"]:
            filled = re.sub(r"\{(\w+)\}", lambda found: str(tenant.ids.get(found[1], 1)), path)
            answer = await tenant.call("GET", filled + query)
            assert answer.status in (200, 404), (path, answer)
            check(document, schema_of(operation, answer.status, document), answer.body, path)


async def test_errors_are_of_the_union(document: Json, tenant: Tenant) -> None:
    bad = {"phone": 1.5, "name": 1, "message": 1, "scheduled_time": "never", "contact_ids": "x", "value": 1}
    for method, path, operation in operations(document):
        if "requestBody" in operation and operation["tags"] != ["webhooks"] and "multipart" not in str(operation):
            filled = re.sub(r"\{(\w+)\}", lambda found: str(tenant.ids.get(found[1], 1)), path)
            answer = await tenant.call(method, filled, bad)
            assert answer.status == 400, (method, path, answer)
            check(document, schema_of(operation, 400, document), answer.body, path)
            union = schema_of(operation, 400, document)["anyOf"]
            fields = document["components"]["schemas"][union[0]["$ref"].rpartition("/")[2]]["properties"]
            assert answer.body.keys() <= fields.keys(), (method, path, answer.body)


async def test_examples_work_when_they_are_pressed(document: Json, client_of: ClientOf) -> None:
    """Send each example of a body in the order of the document, with the ids of the rows that examples name."""
    call = client_of("org_examples", "admin")
    made: dict[str, int] = {}
    sent = 0
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if operation["tags"] == ["webhooks"] or not content or method == "DELETE":
            continue
        assert "example" in content, (method, path)
        await _press(call, method, path, content["example"], made)
        sent += 1
    assert sent > 20


async def _press(call: Client, method: str, path: str, example: Json, made: dict[str, int]) -> None:
    name = path.strip("/").split("/")[1].replace("-", "_").removesuffix("s") + "_id"
    body = {field: made.get(field, value) for field, value in example.items()}
    if "contact_ids" in example:
        body["contact_ids"] = [made["contact_id"]]
    filled = re.sub(r"\{(\w+)\}", lambda found: str(made[found[1]]), path)
    answer = await call(method, filled, body)
    assert 200 <= answer.status < 300, (method, path, answer)
    if method == "POST" and "{" not in path and "id" in answer.body:
        made[name] = answer.body["id"]
