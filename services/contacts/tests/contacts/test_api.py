"""Contacts as a member meets them."""

import asyncio
from typing import Any

import pytest

from common.events import ContactChanged

PHONE, SHOWN = "+61 491 570 006", "0491570006"
SPELLINGS = ["0412345678", "+61412345678", "61412345678", "412345678", 412345678, "+61 (0)412 345 678"]
SPELLINGS += ["(04) 1234 5678", "0011 61 412 345 678", "0412-345-678", "4.12345678E+08", "412345678.0"]


async def test_a_contact_is_added_shown_and_found_by_id(mine: Any) -> None:
    made = await mine.contact(PHONE, first_name=" Ana\t", email="ana@example.com", nonsense=1, id=7)
    assert made == {
        "id": made["id"],
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
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert next(iter(made)) == "id"
    assert list(made)[-4:] == ["created_by", "updated_by", "created_at", "updated_at"]
    assert made["created_at"].endswith("Z")
    assert await mine.get(f"/api/contacts/{made['id']}/") == made
    assert (await mine.get("/api/contacts/"))["results"] == [made]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
async def test_every_usual_spelling_of_a_phone_is_taken(mine: Any, spelling: Any) -> None:
    assert (await mine.contact(spelling))["phone"] == "0412345678"


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
        ({"phone": PHONE, "user": "me"}, "user"),
    ],
)
async def test_what_cannot_be_taken_is_told_under_its_field(mine: Any, body: Any, field: str) -> None:
    told = await mine.post("/api/contacts/", body, 400)
    assert isinstance(told[field], list)
    assert "detail" not in told
    assert (told["code"], bool(told["request_id"])) == ("invalid", True)


async def test_a_phone_is_unique_in_an_organisation_and_free_in_another(mine: Any, theirs: Any) -> None:
    await mine.contact(PHONE)
    other = await mine.contact("0491570110")
    assert "phone" in await mine.post("/api/contacts/", {"phone": "61491570006"}, 400)
    assert "phone" in await mine.patch(f"/api/contacts/{other['id']}/", {"phone": PHONE}, 400)
    assert (await theirs.contact(PHONE))["phone"] == SHOWN


async def test_of_many_at_once_one_gets_the_phone_and_the_rest_are_told(mine: Any) -> None:
    answers = await asyncio.gather(*(mine.call("POST", "/api/contacts/", json={"phone": PHONE}) for _ in range(12)))
    assert sorted(a.status_code for a in answers) == [201] + [400] * 11
    ids = [(await mine.contact(phone))["id"] for phone in ("0491570110", "0491570156", "0491570157")]
    paths = [f"/api/contacts/{i}/" for i in ids]
    answers = await asyncio.gather(*(mine.call("PATCH", path, json={"phone": "0491570158"}) for path in paths))
    assert sorted(a.status_code for a in answers) == [200, 400, 400]


async def test_a_put_needs_the_phone_and_leaves_what_it_does_not_name(mine: Any) -> None:
    made = await mine.contact(PHONE, first_name="Ana", company="Acme")
    path = f"/api/contacts/{made['id']}/"
    assert (await mine.call("PUT", path, json={"first_name": "B"})).status_code == 400
    changed = (await mine.call("PUT", path, json={"phone": PHONE, "first_name": "Bea"})).json()
    assert (changed["first_name"], changed["company"]) == ("Bea", "Acme")
    again = await mine.call("PUT", path, json=await mine.get(path))
    assert (again.status_code, again.json()["first_name"]) == (200, "Bea")


async def test_a_deleted_contact_is_hidden_readable_and_comes_back(mine: Any) -> None:
    made = await mine.contact(PHONE, first_name="Ana", opt_out=True)
    path = f"/api/contacts/{made['id']}/"
    for _ in range(2):
        assert (await mine.call("DELETE", path)).status_code == 204
    assert (await mine.get("/api/contacts/"))["pagination"]["total"] == 0
    assert (await mine.get(path))["is_active"] is False
    assert (await mine.patch(path, {"is_active": True}))["is_active"] is True
    await mine.call("DELETE", path)
    back = await mine.contact(PHONE, last_name="Bell", opt_out=False)
    assert (back["id"], back["last_name"], back["opt_out"], back["is_active"]) == (made["id"], "Bell", True, True)


async def test_an_opt_out_keeps_when_and_how_it_began(mine: Any) -> None:
    made = await mine.contact(PHONE)
    path = f"/api/contacts/{made['id']}/"
    out = await mine.patch(path, {"opt_out": True, "opted_out_at": None})
    assert (out["opt_out"], out["opt_out_source"], bool(out["opted_out_at"])) == (True, "manual", True)
    assert (await mine.patch(path, {"opt_out": True}))["opted_out_at"] == out["opted_out_at"]
    back = await mine.patch(path, {"opt_out": False})
    assert (back["opt_out"], back["opted_out_at"], back["opt_out_source"]) == (False, None, None)


async def test_changes_are_published_with_a_rising_version(mine: Any, database: Any, outbox_events: Any) -> None:
    made = await mine.contact(PHONE)
    path = f"/api/contacts/{made['id']}/"
    await mine.patch(path, {"email": "a@b.au"})
    await mine.patch(path, {"first_name": ""})
    assert await outbox_events(database) == []
    await mine.patch(path, {"first_name": "Ana"})
    await mine.patch(path, {"opt_out": True})
    await mine.call("DELETE", path)
    await mine.contact(PHONE)
    born = await mine.contact("0491570110", opt_out=True)
    events = await outbox_events(database)
    assert all(isinstance(event, ContactChanged) and event.organisation_id == "org_mine" for event in events)
    states = [event.contacts[0] for event in events]
    assert [s.version for s in states] == [2, 3, 4, 5, 1]
    assert [s.is_active for s in states] == [True, True, False, True, True]
    assert [s.opt_out for s in states] == [False, True, True, True, True]
    assert (states[0].fields["first_name"], states[0].phone, states[4].contact_id) == (
        "Ana",
        "+61491570006",
        born["id"],
    )


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
async def test_search_finds_names_in_any_case_and_phones(mine: Any, search: str, found: list[str]) -> None:
    await mine.contact("0491570006", first_name="Ana", last_name="Bell")
    await mine.contact("0491570110", first_name="Élodie", last_name="Campbell")
    gone = await mine.contact("0491570156", first_name="Ana", last_name="Bell")
    await mine.call("DELETE", f"/api/contacts/{gone['id']}/")
    listed = await mine.get("/api/contacts/", search=search)
    assert sorted(contact["first_name"] for contact in listed["results"]) == found
    assert listed["pagination"]["total"] == len(found)


async def test_the_list_is_paged_newest_first_and_counts_past_its_end(mine: Any) -> None:
    made = [await mine.contact(f"04000000{n:02d}") for n in range(5)]
    first = await mine.get("/api/contacts/", page=1, limit=2)
    assert [c["id"] for c in first["results"]] == [made[4]["id"], made[3]["id"]]
    assert first["pagination"] == {
        "total": 5, "page": 1, "limit": 2, "totalPages": 3, "hasNext": True, "hasPrev": False
    }  # fmt: skip
    past = await mine.get("/api/contacts/", page=9, limit=2)
    assert (past["results"], past["pagination"]["total"]) == ([], 5)
    for bad in ({"page": "0"}, {"limit": "x"}, {"exclude_group_id": "x"}, {"search": "a\0"}):
        answer = await mine.call("GET", "/api/contacts/", params=bad)
        assert (answer.status_code, next(iter(bad)) in answer.json()) == (400, True)


async def test_contacts_of_a_group_can_be_left_out(mine: Any, theirs: Any) -> None:
    ana, bea = await mine.contact("0491570006"), await mine.contact("0491570110")
    group = await mine.group("A", ana["id"])
    listed = await mine.get("/api/contacts/", exclude_group_id=group["id"])
    assert [c["id"] for c in listed["results"]] == [bea["id"]]
    for client, wanted in ((mine, group["id"] + 1), (mine, "9" * 40), (theirs, group["id"])):
        answer = await client.call("GET", "/api/contacts/", params={"exclude_group_id": wanted})
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
async def test_what_is_not_there(mine: Any, method: str, path: str, status: int, allow: str | None) -> None:
    answer = await mine.call(method, path, json={})
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
