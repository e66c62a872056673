"""The routes of contacts, as a member uses them."""

import asyncio
from typing import Any

import pytest

from common.events import ContactChanged

from ..conftest import Stage

PHONE, SHOWN = "+61 491 570 006", "0491570006"
SPELLINGS = ["0412345678", "+61412345678", "61412345678", "412345678", 412345678, "+61 (0)412 345 678"]
SPELLINGS += ["(04) 1234 5678", "0011 61 412 345 678", "0412-345-678", "4.12345678E+08", "412345678.0"]


async def test_created_contact_is_read_by_id_and_in_the_list(stage: Stage) -> None:
    created = await stage.mine.add_contact(PHONE, first_name=" Ana\t", email="ana@example.com", nonsense=1, id=7)
    assert created == {
        "id": created["id"],
        "first_name": "Ana",
        "last_name": "",
        "phone": SHOWN,
        "email": "ana@example.com",
        "company": "",
        "user": None,
        "is_active": True,
        "opt_out": False,
        "opted_out_at": None,
        "opt_out_source": None,
        "opt_out_message_id": None,
        "created_by": 1,
        "updated_by": 1,
        "created_at": created["created_at"],
        "updated_at": created["created_at"],
    }
    assert next(iter(created)) == "id"
    assert list(created)[-4:] == ["created_by", "updated_by", "created_at", "updated_at"]
    assert created["created_at"].endswith("Z")
    assert await stage.mine.get_contact(created["id"]) == created
    assert (await stage.mine.get("/api/contacts/"))["results"] == [created]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
async def test_phone_in_any_usual_spelling_is_accepted(stage: Stage, spelling: str | int) -> None:
    assert (await stage.mine.add_contact(spelling))["phone"] == "0412345678"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "phone"),
        ({"phone": ""}, "phone"),
        ({"phone": None}, "phone"),
        ({"phone": "0212345678"}, "phone"),
        ({"phone": "4.12E+08"}, "phone"),
        ({"phone": "٠٤١٢٣٤٥٦٧٨"}, "phone"),
        ({"phone": True}, "phone"),
        ({"phone": PHONE, "first_name": "x" * 101}, "first_name"),
        ({"phone": PHONE, "last_name": None}, "last_name"),
        ({"phone": PHONE, "company": "x" * 201}, "company"),
        ({"phone": PHONE, "email": "no address"}, "email"),
        ({"phone": PHONE, "email": "a" * 250 + "@b.au"}, "email"),
        ({"phone": PHONE, "first_name": "a\0b"}, "first_name"),
        ({"phone": PHONE, "opt_out": None}, "opt_out"),
        *(({"phone": PHONE, "opt_out": given}, "opt_out") for given in (0, 1, "true", "yes")),
        ({"phone": PHONE, "is_active": 0}, "is_active"),
        ({"phone": "\u200b"}, "phone"),
        ({"phone": PHONE, "user": "me"}, "user"),
    ],
)
async def test_invalid_field_answers_400_under_its_name(stage: Stage, body: dict[str, Any], field: str) -> None:
    error = await stage.mine.post("/api/contacts/", body, 400)
    assert isinstance(error[field], list)
    assert "detail" not in error
    assert (error["code"], bool(error["request_id"])) == ("invalid", True)


async def test_phone_of_another_contact_is_refused_in_its_organisation_only(stage: Stage) -> None:
    await stage.mine.add_contact(PHONE)
    other = await stage.mine.add_contact("0491570110")
    assert "phone" in await stage.mine.post("/api/contacts/", {"phone": "61491570006"}, 400)
    assert "phone" in await stage.mine.patch(f"/api/contacts/{other['id']}/", {"phone": PHONE}, 400)
    assert (await stage.theirs.add_contact(PHONE))["phone"] == SHOWN


async def test_simultaneous_requests_for_one_phone_create_one_contact(stage: Stage) -> None:
    posts = (stage.mine.call("POST", "/api/contacts/", json={"phone": PHONE}) for _ in range(12))
    assert sorted(answer.status_code for answer in await asyncio.gather(*posts)) == [201] + [400] * 11
    created = [await stage.mine.add_contact(phone) for phone in ("0491570110", "0491570156", "0491570157")]
    paths = [f"/api/contacts/{contact['id']}/" for contact in created]
    patches = (stage.mine.call("PATCH", path, json={"phone": "0491570158"}) for path in paths)
    assert sorted(answer.status_code for answer in await asyncio.gather(*patches)) == [200, 400, 400]


async def test_put_needs_the_phone_and_keeps_fields_that_are_left_out(stage: Stage) -> None:
    created = await stage.mine.add_contact(PHONE, first_name="Ana", company="Acme")
    path = f"/api/contacts/{created['id']}/"
    await stage.mine.put(path, {"first_name": "B"}, 400)
    changed = await stage.mine.put(path, {"phone": PHONE, "first_name": "Bea"})
    assert (changed["first_name"], changed["company"]) == ("Bea", "Acme")
    again = await stage.mine.put(path, await stage.mine.get(path))
    assert again["first_name"] == "Bea"


async def test_deleted_contact_is_not_listed_but_read_and_restored(stage: Stage) -> None:
    created = await stage.mine.add_contact(PHONE, first_name="Ana", opt_out=True)
    path = f"/api/contacts/{created['id']}/"
    for _ in range(2):
        await stage.mine.delete_contact(created["id"])
    assert (await stage.mine.get("/api/contacts/"))["pagination"]["total"] == 0
    assert (await stage.mine.get(path))["is_active"] is False
    assert (await stage.mine.patch(path, {"is_active": True}))["is_active"] is True
    await stage.mine.delete_contact(created["id"])
    restored = await stage.mine.add_contact(PHONE, last_name="Bell", opt_out=False)
    assert (restored["id"], restored["last_name"]) == (created["id"], "Bell")
    assert (restored["opt_out"], restored["is_active"]) == (True, True)


async def test_repeated_manual_opt_out_keeps_its_first_time_and_source(stage: Stage) -> None:
    created = await stage.mine.add_contact(PHONE)
    path = f"/api/contacts/{created['id']}/"
    first = await stage.mine.patch(path, {"opt_out": True, "opted_out_at": None})
    assert (first["opt_out"], first["opt_out_source"], bool(first["opted_out_at"])) == (True, "manual", True)
    assert (await stage.mine.patch(path, {"opt_out": True}))["opted_out_at"] == first["opted_out_at"]
    opted_in = await stage.mine.patch(path, {"opt_out": False})
    assert (opted_in["opt_out"], opted_in["opted_out_at"], opted_in["opt_out_source"]) == (False, None, None)


async def test_changes_that_other_services_need_are_published_with_rising_versions(stage: Stage) -> None:
    created = await stage.mine.add_contact(PHONE)
    path = f"/api/contacts/{created['id']}/"
    await stage.mine.patch(path, {"email": "a@b.au"})
    await stage.mine.patch(path, {"first_name": ""})
    assert await stage.events() == []
    await stage.mine.patch(path, {"first_name": "Ana"})
    await stage.mine.patch(path, {"opt_out": True})
    await stage.mine.delete_contact(created["id"])
    await stage.mine.add_contact(PHONE)
    opted_out = await stage.mine.add_contact("0491570110", opt_out=True)
    events = await stage.events()
    assert all(isinstance(event, ContactChanged) and event.organisation_id == "org_mine" for event in events)
    states = [event.contacts[0] for event in events]
    assert [state.version for state in states] == [2, 3, 4, 5, 1]
    assert [state.is_active for state in states] == [True, True, False, True, True]
    assert [state.opt_out for state in states] == [False, True, True, True, True]
    assert states[0].fields == {"first_name": "Ana", "last_name": "", "company": ""}
    assert (states[0].phone, states[4].contact_id) == ("+61491570006", opted_out["id"])


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ANA", ["Ana"]),
        ("éL", ["Élodie"]),
        ("bell", ["Ana", "Élodie"]),
        ("ana bell", ["Ana"]),
        ("0491 570", ["Ana", "Élodie"]),
        ("110", ["Élodie"]),
        ("61491570006", ["Ana"]),
        ("+61 491 570 006", ["Ana"]),
        ("%", []),
        ("_na", []),
        ("\\", []),
        ("nobody", []),
        ("", ["Ana", "Élodie"]),
        ("  ", ["Ana", "Élodie"]),
    ],
)
async def test_search_finds_names_in_any_case_and_phones(stage: Stage, search: str, found: list[str]) -> None:
    await stage.mine.add_contact("0491570006", first_name="Ana", last_name="Bell")
    await stage.mine.add_contact("0491570110", first_name="Élodie", last_name="Campbell")
    deleted = await stage.mine.add_contact("0491570156", first_name="Ana", last_name="Bell")
    await stage.mine.delete_contact(deleted["id"])
    listed = await stage.mine.get("/api/contacts/", search=search)
    assert sorted(contact["first_name"] for contact in listed["results"]) == found
    assert listed["pagination"]["total"] == len(found)


async def test_flags_are_created_as_given(stage: Stage) -> None:
    made = await stage.mine.add_contact(PHONE, is_active=False, opt_out=True)
    assert (made["is_active"], made["opt_out"]) == (False, True)
    assert await stage.mine.get_contact(made["id"]) == made
    assert (await stage.mine.get("/api/contacts/"))["results"] == []


async def test_patch_without_fields_changes_nothing(stage: Stage) -> None:
    made = await stage.mine.add_contact(PHONE, opt_out=True)
    path, before = f"/api/contacts/{made['id']}/", len(await stage.events())
    for body in ({}, {"id": 7, "unknown": 1}, {"confirm_opt_in": True}):
        assert await stage.mine.patch(path, body) == made
    assert (await stage.mine.call("PATCH", path)).json() == made
    assert len(await stage.events()) == before
    await stage.mine.patch("/api/contacts/999/", {}, 404)


async def test_contact_as_it_was_read_is_a_valid_put(stage: Stage) -> None:
    for number, flags in enumerate(({}, {"opt_out": True}, {"is_active": False})):
        made = await stage.mine.add_contact(f"040000000{number}", **flags)
        put = await stage.mine.put(f"/api/contacts/{made['id']}/", made)
        assert {**put, "updated_at": made["updated_at"]} == made


async def test_a_repeated_search_finds_what_changed_since(stage: Stage) -> None:
    """What a search found is remembered, and must not be used after a change."""
    numbers = [f"+6149100{number:04d}" for number in range(6)]
    made = [(await stage.mine.add_contact(phone, first_name="Remembered"))["id"] for phone in numbers[:5]]
    foreign = (await stage.theirs.add_contact(numbers[0], first_name="Remembered"))["id"]

    async def found(client: Any = stage.mine, page: int = 1) -> tuple[list[int], int]:
        listed = await client.get("/api/contacts/", search="remember", limit=3, page=page)
        return [row["id"] for row in listed["results"]], listed["pagination"]["total"]

    for _ in range(2):
        assert await found() == ([made[4], made[3], made[2]], 5)
        assert await found(page=2) == ([made[1], made[0]], 5)
        assert await found(page=3) == ([], 5)
        assert await found(stage.theirs) == ([foreign], 1)
    await stage.mine.patch(f"/api/contacts/{made[4]}/", {"first_name": "Forgotten"})
    assert await found() == ([made[3], made[2], made[1]], 4)
    await stage.mine.patch(f"/api/contacts/{made[4]}/", {"last_name": "Remember"})
    assert await found() == ([made[4], made[3], made[2]], 5)
    await stage.mine.delete_contact(made[3])
    assert await found(page=2) == ([made[0]], 4)
    await stage.mine.patch(f"/api/contacts/{made[2]}/", {"company": "Acme"})
    listed = await stage.mine.get("/api/contacts/", search="remember")
    assert [row["company"] for row in listed["results"] if row["id"] == made[2]] == ["Acme"]
    newest = (await stage.mine.add_contact(numbers[5], last_name="Remembered"))["id"]
    assert await found() == ([newest, made[4], made[2]], 5)


# Each search runs on the trigram index, and without it when it is shorter than three letters.
@pytest.mark.parametrize(
    ("name", "searches"),
    [
        ("İbrahim", ["İbrahim", "İb", "ibrahim", "IBRAHIM", "i\u0307brahim", "I\u0307b"]),
        ("Işık", ["Işık", "IŞIK", "ışık", "IŞ"]),
        ("ΓΙΩΡΓΟΣ", ["ΓΙΩΡΓΟΣ", "γιωργος", "γιωργοσ", "ος", "ΟΣ"]),
        ("Γιώργος", ["ΓΙΏΡΓΟΣ", "γιώργος", "ος"]),
        ("Weiß", ["WEISS", "weiß", "WEIẞ", "iß", "SS"]),
        ("Jose\u0301", ["JOSÉ", "josé", "Sé", "jose\u0301"]),
        ("Ольга", ["ОЛЬГА", "ГА"]),
    ],
)
async def test_search_ignores_case_in_every_alphabet(stage: Stage, name: str, searches: list[str]) -> None:
    await stage.mine.add_contact("0491570006", first_name=name)
    await stage.mine.add_group(name)
    for search in searches:
        for path, shown in (("/api/contacts/", "first_name"), ("/api/groups/", "name")):
            found = (await stage.mine.get(path, search=search))["results"]
            assert [row[shown] for row in found] == [name], (path, search)


async def test_search_does_not_ignore_accents(stage: Stage) -> None:
    await stage.mine.add_contact("0491570006", first_name="Élodie")
    assert (await stage.mine.get("/api/contacts/", search="elodie"))["results"] == []


async def test_list_has_the_newest_first_and_the_total_past_its_end(stage: Stage) -> None:
    created = [await stage.mine.add_contact(f"04000000{n:02d}") for n in range(5)]
    first = await stage.mine.get("/api/contacts/", page=1, limit=2)
    assert [contact["id"] for contact in first["results"]] == [created[4]["id"], created[3]["id"]]
    assert first["pagination"] == {
        "total": 5, "page": 1, "limit": 2, "totalPages": 3, "hasNext": True, "hasPrev": False
    }  # fmt: skip
    past = await stage.mine.get("/api/contacts/", page=9, limit=2)
    assert (past["results"], past["pagination"]["total"]) == ([], 5)


@pytest.mark.parametrize("params", [{"page": "0"}, {"limit": "x"}, {"exclude_group_id": "x"}, {"search": "a\0"}])
async def test_invalid_query_parameter_answers_400_under_its_name(stage: Stage, params: dict[str, str]) -> None:
    answer = await stage.mine.call("GET", "/api/contacts/", params=params)
    assert (answer.status_code, next(iter(params)) in answer.json()) == (400, True)


async def test_exclude_group_id_leaves_out_the_members_of_the_group(stage: Stage) -> None:
    ana, bea = await stage.mine.add_contact("0491570006"), await stage.mine.add_contact("0491570110")
    group = await stage.mine.add_group("A", ana["id"])
    listed = await stage.mine.get("/api/contacts/", exclude_group_id=group["id"])
    assert [contact["id"] for contact in listed["results"]] == [bea["id"]]
    for client, unknown in ((stage.mine, group["id"] + 1), (stage.mine, "9" * 40), (stage.theirs, group["id"])):
        answer = await client.call("GET", "/api/contacts/", params={"exclude_group_id": unknown})
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/api/contacts/import/", 405, "POST"),
        ("DELETE", "/api/contacts/", 405, "GET, POST"),
        ("POST", "/api/contacts/1/", 405, "DELETE, GET, PATCH, PUT"),
        ("GET", "/api/contacts/abc/", 404, None),
        ("GET", "/api/contacts/0/", 404, None),
        ("GET", f"/api/contacts/{'9' * 5000}/", 404, None),
        ("PATCH", "/api/contacts/99999999999999999999/", 404, None),
    ],
)
async def test_wrong_method_answers_405_and_unknown_id_404(
    stage: Stage, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = await stage.mine.call(method, path, json={})
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
