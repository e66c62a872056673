import pytest

TEMPLATES = "/api/templates/"


async def test_a_template_lives_and_every_update_is_a_version(client, other, run_sql, organisation):
    made = await client.ok("POST", TEMPLATES, {"name": " Reminder ", "text": "Hi {{first_name}}\r\nbye", "id": 99})
    assert made["text"] == "Hi {{first_name}}\nbye"
    assert (made["name"], made["version"], made["is_active"]) == ("Reminder", 1, True)
    assert made["created_by"] == made["updated_by"] == 1
    assert made["created_at"] == made["updated_at"]
    url = f"{TEMPLATES}{made['id']}/"
    changed = await client.ok("PATCH", url, {"text": "Bye"})
    assert (changed["name"], changed["text"], changed["version"]) == ("Reminder", "Bye", 2)
    assert (await client.ok("PUT", url, changed))["version"] == 3
    assert (await client("DELETE", url)).status_code == 204
    assert (await client.ok("GET", url))["is_active"] is False
    assert (await client.ok("GET", TEMPLATES))["results"] == []
    assert (await client.ok("PATCH", url, {"is_active": True}))["is_active"] is True
    assert [t["id"] for t in (await client.ok("GET", TEMPLATES))["results"]] == [made["id"]]
    versions = await run_sql("SELECT version, text FROM template_versions ORDER BY version")
    assert [v.version for v in versions] == [1, 2, 3, 4, 5]
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert (await other(method, url, {"name": "x", "text": "y"})).status_code == 404
    assert (await other.ok("GET", TEMPLATES))["pagination"]["total"] == 0


async def test_templates_are_listed_by_name_in_any_case(client):
    for name in ("b", "A", "c", "B"):
        await client.ok("POST", TEMPLATES, {"name": name, "text": "x"})
    page = await client.ok("GET", f"{TEMPLATES}?page=2&limit=3")
    assert [t["name"] for t in page["results"]] == ["c"]
    assert page["pagination"] == {
        "total": 4, "page": 2, "limit": 3, "totalPages": 2, "hasNext": False, "hasPrev": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "x"}, "name"),
        ({"name": "x"}, "text"),
        ({"name": " ", "text": "x"}, "name"),
        ({"name": "x", "text": "\t"}, "text"),
        ({"name": "x" * 201, "text": "x"}, "name"),
        ({"name": "a\0b", "text": "x"}, "name"),
        ({"name": None, "text": "x"}, "name"),
        ({"name": "x", "text": "{{nobody}}"}, "text"),
        ({"name": 5, "text": "x"}, "name"),
        ([], "non_field_errors"),
    ],
)
async def test_what_is_no_template_is_refused_under_its_field(client, body, field):
    answer = await client("POST", TEMPLATES, body)
    assert answer.status_code == 400
    told = answer.json()
    assert told[field]
    assert told["code"] == "invalid"
    assert "detail" not in told


async def test_null_is_refused_in_a_patch(client):
    made = await client.ok("POST", TEMPLATES, {"name": "x", "text": "y"})
    for field in ("name", "text", "is_active"):
        answer = await client("PATCH", f"{TEMPLATES}{made['id']}/", {field: None})
        assert (answer.status_code, next(iter(answer.json()))) == (400, field)
