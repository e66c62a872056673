"""`/api/templates/`."""

from typing import Any

import pytest

from services.scheduling.tests.stage import Stage

TEMPLATES = "/api/templates/"


async def test_every_update_of_a_template_is_a_version(stage: Stage) -> None:
    client = stage.client
    made = await client.ok("POST", TEMPLATES, {"name": " Reminder ", "text": "Hi {{first_name}}\r\nbye", "id": 99})
    assert made["text"] == "Hi {{first_name}}\nbye"
    assert (made["name"], made["version"], made["is_active"]) == ("Reminder", 1, True)
    assert made["created_by"] == made["updated_by"] == 1
    assert made["created_at"] == made["updated_at"]
    url = f"{TEMPLATES}{made['id']}/"
    changed = await client.ok("PATCH", url, {"text": "Bye"})
    assert (changed["name"], changed["text"], changed["version"]) == ("Reminder", "Bye", 2)
    assert (await client.ok("PUT", url, changed))["version"] == 3
    versions = await stage.rows("SELECT version, text FROM template_versions ORDER BY version")
    assert [(row.version, row.text) for row in versions] == [(1, made["text"]), (2, "Bye"), (3, "Bye")]


@pytest.mark.parametrize("body", [None, {}, {"version": 9, "unknown": True}])
async def test_a_patch_without_fields_writes_no_version(stage: Stage, body: Any) -> None:
    made = await stage.client.ok("POST", TEMPLATES, {"name": "Reminder", "text": "Hi"})
    assert await stage.client.ok("PATCH", f"{TEMPLATES}{made['id']}/", body) == made
    assert len(await stage.rows("SELECT version FROM template_versions")) == 1
    assert (await stage.client("PATCH", f"{TEMPLATES}{made['id'] + 1}/", body)).status_code == 404


async def test_a_template_can_be_created_inactive(stage: Stage) -> None:
    made = await stage.client.ok("POST", TEMPLATES, {"name": "Reminder", "text": "Hi", "is_active": False})
    assert made["is_active"] is False
    assert await stage.client.ok("GET", f"{TEMPLATES}{made['id']}/") == made
    assert (await stage.client.ok("GET", TEMPLATES))["pagination"]["total"] == 0


@pytest.mark.parametrize("given", [0, 1, "true", "yes", None])
async def test_a_boolean_is_true_or_false(stage: Stage, given: Any) -> None:
    answer = await stage.client("POST", TEMPLATES, {"name": "Reminder", "text": "Hi", "is_active": given})
    assert (answer.status_code, next(iter(answer.json()))) == (400, "is_active")


async def test_a_deleted_template_is_not_listed_and_can_be_restored(stage: Stage) -> None:
    client = stage.client
    made = await client.ok("POST", TEMPLATES, {"name": "Reminder", "text": "Hi"})
    url = f"{TEMPLATES}{made['id']}/"
    assert (await client("DELETE", url)).status_code == 204
    assert (await client.ok("GET", url))["is_active"] is False
    assert (await client.ok("GET", TEMPLATES))["results"] == []
    assert (await client.ok("PATCH", url, {"is_active": True}))["is_active"] is True
    assert [t["id"] for t in (await client.ok("GET", TEMPLATES))["results"]] == [made["id"]]


async def test_a_template_of_another_organisation_is_not_found(stage: Stage) -> None:
    made = await stage.client.ok("POST", TEMPLATES, {"name": "Reminder", "text": "Hi"})
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = await stage.other(method, f"{TEMPLATES}{made['id']}/", {"name": "x", "text": "y"})
        assert answer.status_code == 404
    assert (await stage.other.ok("GET", TEMPLATES))["pagination"]["total"] == 0


async def test_templates_are_listed_by_name_in_any_case(stage: Stage) -> None:
    for name in ("b", "A", "c", "B"):
        await stage.client.ok("POST", TEMPLATES, {"name": name, "text": "x"})
    page = await stage.client.ok("GET", f"{TEMPLATES}?page=2&limit=3")
    assert [t["name"] for t in page["results"]] == ["c"]
    assert page["pagination"] == {
        "total": 4,
        "page": 2,
        "limit": 3,
        "totalPages": 2,
        "hasNext": False,
        "hasPrev": True,
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "x"}, "name"),
        ({"name": "x"}, "text"),
        ({"name": " ", "text": "x"}, "name"),
        ({"name": "x", "text": "\t"}, "text"),
        ({"name": "x", "text": "\u200b\u2060"}, "text"),
        ({"name": "\ufeff", "text": "x"}, "name"),
        ({"name": "x" * 201, "text": "x"}, "name"),
        ({"name": "a\0b", "text": "x"}, "name"),
        ({"name": None, "text": "x"}, "name"),
        ({"name": "x", "text": "{{nobody}}"}, "text"),
        ({"name": 5, "text": "x"}, "name"),
        ([], "non_field_errors"),
    ],
)
async def test_an_invalid_template_is_refused_under_its_field(stage: Stage, body: Any, field: str) -> None:
    answer = await stage.client("POST", TEMPLATES, body)
    assert answer.status_code == 400
    refused = answer.json()
    assert refused[field]
    assert refused["code"] == "invalid"
    assert "detail" not in refused


async def test_a_null_in_a_patch_is_refused(stage: Stage) -> None:
    made = await stage.client.ok("POST", TEMPLATES, {"name": "x", "text": "y"})
    for field in ("name", "text", "is_active"):
        answer = await stage.client("PATCH", f"{TEMPLATES}{made['id']}/", {field: None})
        assert (answer.status_code, next(iter(answer.json()))) == (400, field)
