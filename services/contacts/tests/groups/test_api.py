"""The routes of groups and their members."""

from typing import Any

import pytest

from ..conftest import Client, Stage

PHONES = ["0491570006", "0491570110", "0491570156"]


async def add_people(client: Client) -> list[int]:
    """Add three contacts and return their ids. By name they are the third, the second and the first."""
    names = [("Ana", "Kerr"), ("Bea", "Bell"), ("Abe", "Bell")]
    people = zip(PHONES, names, strict=True)
    added = [await client.add_contact(phone, first_name=first, last_name=last) for phone, (first, last) in people]
    return [contact["id"] for contact in added]


async def test_created_group_is_read_with_a_page_of_its_members_by_name(stage: Stage) -> None:
    ana, bea, abe = await add_people(stage.mine)
    group = await stage.mine.add_group("Friends", ana, bea, abe, ana)
    assert (group["name"], group["description"]) == ("Friends", "")
    assert (group["is_active"], group["member_count"]) == (True, 3)
    assert (group["created_by"], group["updated_by"], group["created_at"]) == (1, 1, group["updated_at"])
    first = await stage.mine.get(f"/api/groups/{group['id']}/", limit=2)
    assert [member["id"] for member in first["members"]["results"]] == [abe, bea]
    assert first["members"]["pagination"]["total"] == 3
    second = await stage.mine.get(f"/api/groups/{group['id']}/", limit=2, page=2)
    assert [member["id"] for member in second["members"]["results"]] == [ana]


async def test_deleted_contact_is_neither_counted_nor_listed_as_member(stage: Stage) -> None:
    ana, bea, _ = await add_people(stage.mine)
    group = await stage.mine.add_group("A", ana, bea)
    await stage.mine.delete_contact(ana)
    shown = await stage.mine.get_group(group["id"])
    assert (shown["member_count"], [member["id"] for member in shown["members"]["results"]]) == (1, [bea])
    assert (await stage.mine.get("/api/groups/"))["results"][0]["member_count"] == 1
    await stage.mine.patch(f"/api/contacts/{ana}/", {"is_active": True})
    assert (await stage.mine.get_group(group["id"]))["member_count"] == 2


async def test_members_are_added_and_removed_once(stage: Stage) -> None:
    ana, bea, abe = await add_people(stage.mine)
    group = await stage.mine.add_group("A", ana)
    path = f"/api/groups/{group['id']}/members/"
    assert await stage.mine.post(path, {"contact_ids": [ana, bea, bea]}, 200) == {"added": 1, "member_count": 2}
    answer = await stage.mine.call("DELETE", path, json={"contact_ids": [ana, abe, 999]})
    assert (answer.status_code, answer.json()) == (200, {"removed": 1, "member_count": 1})


async def test_list_with_an_unknown_or_deleted_contact_adds_none(stage: Stage) -> None:
    ana, bea, deleted = await add_people(stage.mine)
    foreign = (await stage.theirs.add_contact(PHONES[0]))["id"]
    await stage.mine.delete_contact(deleted)
    group = await stage.mine.add_group("A")
    path = f"/api/groups/{group['id']}/members/"
    for ids, status in (([ana, 999], 404), ([ana, foreign], 404), ([bea, deleted], 400), ([bea, 2**70], 404)):
        await stage.mine.post(path, {"contact_ids": ids}, status)
        error = await stage.mine.post("/api/groups/", {"name": "B", "member_ids": ids}, status)
        assert status == 404 or "member_ids" in error
    assert (await stage.mine.get("/api/groups/"))["pagination"]["total"] == 1
    assert (await stage.mine.get_group(group["id"]))["member_count"] == 0


@pytest.mark.parametrize("ids", [[], list(range(1, 1002)), ["x"], [True], [1.5], None, "1"])
async def test_list_that_is_not_one_to_a_thousand_numbers_answers_400(stage: Stage, ids: Any) -> None:
    group = await stage.mine.add_group("A")
    for method in ("POST", "DELETE"):
        answer = await stage.mine.call(method, f"/api/groups/{group['id']}/members/", json={"contact_ids": ids})
        assert (answer.status_code, "contact_ids" in answer.json()) == (400, True)


async def test_patch_without_fields_changes_nothing_and_a_group_as_read_is_a_valid_put(stage: Stage) -> None:
    made = await stage.mine.post("/api/groups/", {"name": "A", "description": "d", "is_active": False})
    assert made["is_active"] is False
    path = f"/api/groups/{made['id']}/"
    for body in ({}, {"id": 7, "member_count": 1}):
        assert await stage.mine.patch(path, body) == made
    assert (await stage.mine.call("PATCH", path)).json() == made
    await stage.mine.patch("/api/groups/999/", {}, 404)
    put = await stage.mine.put(path, await stage.mine.get(path))
    assert {**put, "updated_at": made["updated_at"]} == made
    for given in (0, "true"):
        assert "is_active" in await stage.mine.patch(path, {"is_active": given}, 400)


async def test_groups_are_listed_by_name_in_any_case_and_searched(stage: Stage) -> None:
    for name in ("beta", "Alpha", "50% off", "ALPS", "Élan"):
        await stage.mine.add_group(name)
    assert [group["name"] for group in (await stage.mine.get("/api/groups/"))["results"]] == [
        "50% off", "Alpha", "ALPS", "beta", "Élan"
    ]  # fmt: skip
    for search, found in (("al", ["Alpha", "ALPS"]), ("a", None), ("%", None), ("0%", ["50% off"]), ("éL", ["Élan"])):
        listed = await stage.mine.get("/api/groups/", search=search)
        names = [group["name"] for group in listed["results"]]
        assert names == found if found else len(names) == 5
        assert listed["pagination"]["total"] == len(names)


async def test_search_with_a_null_character_answers_400(stage: Stage) -> None:
    answer = await stage.mine.call("GET", "/api/groups/", params={"search": "a\0"})
    assert (answer.status_code, "search" in answer.json()) == (400, True)


async def test_group_is_changed_deleted_and_restored(stage: Stage) -> None:
    group = await stage.mine.add_group("A")
    path = f"/api/groups/{group['id']}/"
    assert "name" in await stage.mine.put(path, {"description": "x"}, 400)
    for invalid in ({"name": " "}, {"name": None}, {"name": "x" * 201}, {"description": "x" * 1001}):
        assert next(iter(invalid)) in await stage.mine.patch(path, invalid, 400)
    changed = await stage.mine.put(path, {**await stage.mine.get(path), "name": "B", "member_ids": [99]})
    assert changed["name"] == "B"
    assert (await stage.mine.patch(path, {"description": "two\r\nlines"}))["description"] == "two\nlines"
    assert (await stage.mine.call("DELETE", path)).status_code == 204
    assert (await stage.mine.get("/api/groups/"))["results"] == []
    assert (await stage.mine.get(path))["is_active"] is False
    assert (await stage.mine.patch(path, {"is_active": True}))["is_active"] is True
    assert "name" in await stage.mine.post("/api/groups/", {}, 400)


async def test_scheduling_reads_a_group(stage: Stage) -> None:
    group = await stage.mine.add_group("A", *await add_people(stage.mine))
    state = await stage.scheduling.get(f"/internal/groups/{group['id']}/")
    assert state == {"id": group["id"], "name": "A", "is_active": True}
    assert (await stage.scheduling.call("GET", "/internal/groups/999/")).status_code == 404
