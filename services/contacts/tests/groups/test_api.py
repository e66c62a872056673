"""Groups and their members."""

from typing import Any

import pytest

PHONES = ["0491570006", "0491570110", "0491570156"]


async def people(client: Any) -> list[int]:
    names = [("Ana", "Kerr"), ("Bea", "Bell"), ("Abe", "Bell")]
    made = [await client.contact(p, first_name=f, last_name=s) for p, (f, s) in zip(PHONES, names, strict=True)]
    return [contact["id"] for contact in made]


async def test_a_group_is_made_with_members_and_shown_with_a_page_of_them(mine: Any) -> None:
    ana, bea, abe = await people(mine)
    made = await mine.group("Friends", ana, bea, abe, ana)
    assert (made["name"], made["description"], made["is_active"], made["member_count"]) == ("Friends", "", True, 3)
    assert (made["created_by"], made["updated_by"], made["created_at"]) == (1, 1, made["updated_at"])
    shown = await mine.get(f"/api/groups/{made['id']}/", limit=2)
    assert [c["id"] for c in shown["members"]["results"]] == [abe, bea]
    assert shown["members"]["pagination"]["total"] == 3
    rest = await mine.get(f"/api/groups/{made['id']}/", limit=2, page=2)
    assert [c["id"] for c in rest["members"]["results"]] == [ana]


async def test_counts_and_members_are_of_active_contacts(mine: Any) -> None:
    ana, bea, _ = await people(mine)
    group = await mine.group("A", ana, bea)
    await mine.call("DELETE", f"/api/contacts/{ana}/")
    shown = await mine.get(f"/api/groups/{group['id']}/")
    assert (shown["member_count"], [c["id"] for c in shown["members"]["results"]]) == (1, [bea])
    assert (await mine.get("/api/groups/"))["results"][0]["member_count"] == 1
    await mine.patch(f"/api/contacts/{ana}/", {"is_active": True})
    assert (await mine.get(f"/api/groups/{group['id']}/"))["member_count"] == 2


async def test_members_are_added_and_taken_out(mine: Any) -> None:
    ana, bea, abe = await people(mine)
    group = await mine.group("A", ana)
    path = f"/api/groups/{group['id']}/members/"
    assert await mine.post(path, {"contact_ids": [ana, bea, bea]}, 200) == {"added": 1, "member_count": 2}
    answer = await mine.call("DELETE", path, json={"contact_ids": [ana, abe, 999]})
    assert (answer.status_code, answer.json()) == (200, {"removed": 1, "member_count": 1})


async def test_an_unknown_or_deleted_contact_adds_nobody(mine: Any, theirs: Any) -> None:
    ana, bea, gone = await people(mine)
    foreign = (await theirs.contact(PHONES[0]))["id"]
    await mine.call("DELETE", f"/api/contacts/{gone}/")
    group = await mine.group("A")
    path = f"/api/groups/{group['id']}/members/"
    for ids, status in (([ana, 999], 404), ([ana, foreign], 404), ([bea, gone], 400), ([bea, 2**70], 404)):
        answer = await mine.call("POST", path, json={"contact_ids": ids})
        assert answer.status_code == status
        made = await mine.call("POST", "/api/groups/", json={"name": "B", "member_ids": ids})
        assert made.status_code == status
        assert status == 404 or "member_ids" in made.json()
    assert (await mine.get("/api/groups/"))["pagination"]["total"] == 1
    assert (await mine.get(f"/api/groups/{group['id']}/"))["member_count"] == 0


@pytest.mark.parametrize("ids", [[], list(range(1, 1002)), ["x"], [True], [1.5], None, "1"])
async def test_a_list_of_ids_has_one_to_a_thousand_numbers(mine: Any, ids: Any) -> None:
    group = await mine.group("A")
    for method in ("POST", "DELETE"):
        answer = await mine.call(method, f"/api/groups/{group['id']}/members/", json={"contact_ids": ids})
        assert (answer.status_code, "contact_ids" in answer.json()) == (400, True)


async def test_groups_are_listed_by_name_in_any_case_and_searched(mine: Any) -> None:
    for name in ("beta", "Alpha", "50% off", "ALPS", "Élan"):
        await mine.group(name)
    assert [g["name"] for g in (await mine.get("/api/groups/"))["results"]] == [
        "50% off", "Alpha", "ALPS", "beta", "Élan"
    ]  # fmt: skip
    for search, found in (("al", ["Alpha", "ALPS"]), ("a", None), ("%", None), ("0%", ["50% off"]), ("éL", ["Élan"])):
        listed = await mine.get("/api/groups/", search=search)
        names = [g["name"] for g in listed["results"]]
        assert names == found if found else len(names) == 5
        assert listed["pagination"]["total"] == len(names)


async def test_a_group_is_changed_deleted_and_brought_back(mine: Any) -> None:
    group = await mine.group("A")
    path = f"/api/groups/{group['id']}/"
    assert "name" in (await mine.call("PUT", path, json={"description": "x"})).json()
    for bad in ({"name": " "}, {"name": None}, {"name": "x" * 201}, {"description": "x" * 1001}):
        assert next(iter(bad)) in await mine.patch(path, bad, 400)
    put = await mine.call("PUT", path, json={**await mine.get(path), "name": "B", "member_ids": [99]})
    assert (put.status_code, put.json()["name"]) == (200, "B")
    assert (await mine.patch(path, {"description": "two\r\nlines"}))["description"] == "two\nlines"
    assert (await mine.call("DELETE", path)).status_code == 204
    assert (await mine.get("/api/groups/"))["results"] == []
    assert (await mine.get(path))["is_active"] is False
    assert (await mine.patch(path, {"is_active": True}))["is_active"] is True
    assert "name" in await mine.post("/api/groups/", {}, 400)


async def test_scheduling_reads_groups_and_pages_of_who_may_be_written_to(mine: Any, neighbour: Any) -> None:
    ana, bea, abe = await people(mine)
    out = await mine.contact("0491570157", opt_out=True)
    group = await mine.group("A", ana, bea, abe, out["id"])
    path = f"/internal/groups/{group['id']}/"
    assert await neighbour.get(path) == {"id": group["id"], "name": "A", "is_active": True, "eligible_count": 3}
    first = await neighbour.get(path + "members/", limit=2)
    assert ([m["contact_id"] for m in first["members"]], first["next"]) == ([ana, bea], bea)
    assert first["members"][0] | {"version": 1} == {
        "contact_id": ana, "version": 1, "phone": "+61491570006",
        "fields": {"first_name": "Ana", "last_name": "Kerr", "company": ""}, "is_active": True, "opt_out": False, "opt_out_source": None, "opted_out_at": None,
        "opt_in_confirmed_at": None,
    }  # fmt: skip
    rest = await neighbour.get(path + "members/", limit=2, after=bea)
    assert ([m["contact_id"] for m in rest["members"]], rest["next"]) == ([abe], None)
    early = await neighbour.get(path + "members/", joined_before="2020-01-01T00:00:00Z")
    assert early == {"members": [], "next": None}
    assert (await neighbour.call("GET", "/internal/groups/999/")).status_code == 404
