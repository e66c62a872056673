"""The internal routes with which scheduling and delivery read recipients."""

from typing import Any

import pytest

from ..conftest import Stage

PHONE = "+61491570006"


async def ask(stage: Stage, **body: Any) -> tuple[int | None, str, str | None]:
    """Return contact id, phone and refusal of a recipient."""
    (found,) = (await stage.scheduling.post("/internal/recipients/", {"recipients": [body]}, 200))["recipients"]
    return found["contact"] and found["contact"]["contact_id"], found["phone"], found["refused"]


async def test_recipient_is_found_by_contact_by_phone_or_by_both(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE, first_name="Ana"))["id"]
    assert await ask(stage, contact_id=ana, phone=None) == (ana, PHONE, None)
    assert await ask(stage, phone=PHONE) == (ana, PHONE, None)
    assert await ask(stage, phone="0491570110") == (None, "+61491570110", None)
    assert await ask(stage, contact_id=ana, phone="+61491570110") == (ana, "+61491570110", None)
    state = await stage.scheduling.get(f"/internal/contacts/{ana}/")
    assert (state["contact_id"], state["phone"]) == (ana, PHONE)
    assert state["fields"] == {"first_name": "Ana", "last_name": "", "company": ""}


async def test_delivery_reads_contacts_of_its_organisation_only(stage: Stage) -> None:
    delivery = stage.client_of("org_mine", issuer="delivery", role="system", user_id=None)
    ana = (await stage.mine.add_contact(PHONE))["id"]
    foreign = (await stage.theirs.add_contact(PHONE))["id"]
    assert (await delivery.get(f"/internal/contacts/{ana}/"))["phone"] == PHONE
    assert (await delivery.call("GET", f"/internal/contacts/{foreign}/")).status_code == 404


async def test_opt_out_refuses_the_contact_and_its_phone_even_when_deleted(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE, opt_out=True))["id"]
    bea = (await stage.mine.add_contact("0491570110"))["id"]
    for _ in range(2):
        assert (await ask(stage, contact_id=ana))[2] == "opted_out"
        assert (await ask(stage, phone=PHONE))[2] == "opted_out"
        assert (await ask(stage, contact_id=bea, phone=PHONE))[2] == "opted_out"
        await stage.mine.delete_contact(ana)


async def test_deleted_contact_is_refused_by_id_but_not_by_phone(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE, is_active=False))["id"]
    assert await ask(stage, contact_id=ana) == (ana, PHONE, "inactive")
    assert await ask(stage, phone=PHONE) == (None, PHONE, None)


async def test_unknown_contact_is_refused_and_a_missing_recipient_answers_400(stage: Stage) -> None:
    foreign = (await stage.theirs.add_contact(PHONE, opt_out=True))["id"]
    for unknown in (foreign, 999):
        assert await ask(stage, contact_id=unknown) == (None, "", "not_found")
        assert await ask(stage, contact_id=unknown, phone=PHONE) == (None, PHONE, "not_found")
    for body in ({}, {"recipients": []}, {"recipients": [{}]}, {"recipients": [{"phone": "1"}]}):
        assert (await stage.scheduling.call("POST", "/internal/recipients/", json=body)).status_code == 400
    assert (await ask(stage, phone=PHONE))[2] is None
    assert (await stage.scheduling.call("GET", f"/internal/contacts/{foreign}/")).status_code == 404


async def test_eligible_members_are_paged_by_id_with_their_placeholder_fields(stage: Stage) -> None:
    ana = (await stage.mine.add_contact("0491570006", first_name="Ana", last_name="Kerr"))["id"]
    bea = (await stage.mine.add_contact("0491570110"))["id"]
    abe = (await stage.mine.add_contact("0491570156"))["id"]
    opted_out = (await stage.mine.add_contact("0491570157", opt_out=True))["id"]
    group = await stage.mine.add_group("A", ana, bea, abe, opted_out)
    path = f"/internal/groups/{group['id']}/members/"
    first = await stage.scheduling.get(path, limit=2)
    assert ([member["contact_id"] for member in first["members"]], first["next"]) == ([ana, bea], bea)
    assert first["members"][0] | {"version": 1} == {
        "contact_id": ana,
        "version": 1,
        "phone": "+61491570006",
        "fields": {"first_name": "Ana", "last_name": "Kerr", "company": ""},
        "is_active": True,
        "opt_out": False,
        "opt_out_source": None,
        "opted_out_at": None,
        "opt_in_confirmed_at": None,
    }
    rest = await stage.scheduling.get(path, limit=2, after=bea)
    assert ([member["contact_id"] for member in rest["members"]], rest["next"]) == ([abe], None)
    early = await stage.scheduling.get(path, joined_before="2020-01-01T00:00:00Z")
    assert early == {"members": [], "next": None}


async def test_an_audience_is_a_group_with_its_eligible_members_counted_and_the_first_of_them(stage: Stage) -> None:
    ana, bea, abe = [
        (await stage.mine.add_contact(phone))["id"] for phone in ("0491570006", "0491570110", "0491570156")
    ]
    opted_out = (await stage.mine.add_contact("0491570157", opt_out=True))["id"]
    deleted = (await stage.mine.add_contact("0491570158"))["id"]
    group = await stage.mine.add_group("A", abe, opted_out, deleted, bea, ana)
    await stage.mine.call("DELETE", f"/api/contacts/{deleted}/")
    path = f"/internal/groups/{group['id']}/"
    audience = await stage.scheduling.get(path + "audience/", limit=2)
    assert audience["group"] == {"id": group["id"], "name": "A", "is_active": True}
    assert audience["eligible_count"] == 3
    assert {name: audience[name] for name in ("members", "next")} == await stage.scheduling.get(
        path + "members/", limit=2
    )
    assert [member["contact_id"] for member in audience["members"]] == [ana, bea]
    whole = await stage.scheduling.get(path + "audience/")
    assert ([member["contact_id"] for member in whole["members"]], whole["next"]) == ([ana, bea, abe], None)


async def test_the_audience_of_an_empty_a_deleted_and_another_organisations_group(stage: Stage) -> None:
    member = await stage.mine.add_contact("0491570006", opt_out=True)
    empty = await stage.mine.add_group("A", member["id"])
    await stage.mine.call("DELETE", f"/api/groups/{empty['id']}/")
    audience = await stage.scheduling.get(f"/internal/groups/{empty['id']}/audience/")
    state = {"id": empty["id"], "name": "A", "is_active": False}
    assert audience == {"group": state, "eligible_count": 0, "members": [], "next": None}
    foreign = await stage.theirs.add_group("B", (await stage.theirs.add_contact("0491570110"))["id"])
    for group_id in (foreign["id"], 999):
        answer = await stage.scheduling.call("GET", f"/internal/groups/{group_id}/audience/")
        assert answer.status_code == 404


@pytest.mark.parametrize(
    "path",
    ["recipients/", "contacts/1/", "groups/1/", "groups/1/audience/", "groups/1/members/", "identity/"],
)
async def test_internal_route_called_by_another_service_answers_401(stage: Stage, path: str) -> None:
    refused = {"identity/": ("delivery", "scheduling"), "contacts/1/": ("gateway",)}
    for issuer in refused.get(path, ("delivery", "gateway")):
        client = stage.client_of("org_mine", issuer=issuer)
        method = "POST" if path in ("recipients/", "identity/") else "GET"
        answer = await client.call(method, "/internal/" + path, **({"json": {}} if method == "POST" else {}))
        assert answer.status_code == 401


async def test_recipients_of_one_question_are_answered_in_order(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE, opt_out=True))["id"]
    bea = (await stage.mine.add_contact("0491570110"))["id"]
    given = [{"contact_id": bea}, {"phone": PHONE}, {"contact_id": 999}, {"contact_id": bea, "phone": PHONE}]
    given += [{"phone": "+61491570156"}, {"contact_id": ana}, {"contact_id": bea}]
    found = (await stage.scheduling.post("/internal/recipients/", {"recipients": given}, 200))["recipients"]
    assert [(one["contact"] and one["contact"]["contact_id"], one["refused"]) for one in found] == [
        *((bea, None), (ana, "opted_out"), (None, "not_found"), (bea, "opted_out")),
        *((None, None), (ana, "opted_out"), (bea, None)),
    ]
