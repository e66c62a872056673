"""Every place of an id is found in a document, and a place that is not understood is an error."""

from typing import Any

import pytest

from .foreign_ids import Place, UnknownPlace, operations_of


def document(*parameters: dict[str, Any], fields: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a document with one operation."""
    operation: dict[str, Any] = {"parameters": list(parameters), **more}
    if fields is not None:
        reference = {"$ref": "#/components/schemas/Body"}
        operation["requestBody"] = {"content": {"application/json": {"schema": reference}}}
    return {
        "paths": {"/api/x/": {"post": operation}},
        "components": {"schemas": {"Body": {"properties": fields or {}}}},
    }


def test_ids_in_path_query_and_body_are_found() -> None:
    nullable = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    found = operations_of(
        document(
            {"in": "path", "name": "schedule_id"},
            {"in": "query", "name": "group_id"},
            {"in": "query", "name": "page"},
            {"in": "header", "name": "Idempotency-Key"},
            fields={
                "template": nullable,
                "member_ids": {"type": "array", "items": {"type": "integer"}},
                "name": {"type": "string"},
            },
        )
    )
    assert found[0].has_json
    assert found[0].places == (
        Place("path", "schedule_id", "schedule"),
        Place("query", "group_id", "group"),
        Place("body", "template", "template"),
        Place("body", "member_ids", "contact", is_list=True),
    )


def test_operation_without_a_token_has_no_tenant() -> None:
    assert operations_of(document({"in": "path", "name": "provider"}, security=[])) == []


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        ([{"in": "path", "name": "owner"}], None),
        ([{"in": "query", "name": "owner"}], None),
        ([], {"owner": {"type": "integer"}}),
        ([], {"owner": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}),
        ([], {"owner_id": {"type": "string"}}),
        ([], {"owners": {"type": "array", "items": {"type": "object"}}}),
        ([], {"owner": {"type": "object"}}),
        ([], {"owner": {}}),
    ],
)
def test_place_that_is_not_understood_is_an_error(
    parameters: list[dict[str, Any]], fields: dict[str, Any] | None
) -> None:
    with pytest.raises(UnknownPlace, match="owner"):
        operations_of(document(*parameters, fields=fields))
