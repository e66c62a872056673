"""What scheduling asks before it takes a message."""

from typing import Any

import pytest

PHONE = "+61491570006"


async def asked(neighbour: Any, **body: Any) -> tuple[int | None, str, str | None]:
    found = await neighbour.post("/internal/recipients/", body, 200)
    return found["contact"] and found["contact"]["contact_id"], found["phone"], found["refused"]


async def test_a_recipient_is_a_contact_a_phone_or_both(mine: Any, neighbour: Any) -> None:
    ana = (await mine.contact(PHONE, first_name="Ana"))["id"]
    assert await asked(neighbour, contact_id=ana, phone=None) == (ana, PHONE, None)
    assert await asked(neighbour, phone=PHONE) == (ana, PHONE, None)
    assert await asked(neighbour, phone="0491570110") == (None, "+61491570110", None)
    assert await asked(neighbour, contact_id=ana, phone="+61491570110") == (ana, "+61491570110", None)
    state = await neighbour.get(f"/internal/contacts/{ana}/")
    assert (state["contact_id"], state["phone"], state["fields"]["first_name"]) == (ana, PHONE, "Ana")


async def test_delivery_reads_a_contact_of_the_organisation_alone(mine: Any, theirs: Any, client_of: Any) -> None:
    delivery = client_of("org_mine", issuer="delivery", role="system", user_id=None)
    ana, foreign = (await mine.contact(PHONE))["id"], (await theirs.contact(PHONE))["id"]
    assert (await delivery.get(f"/internal/contacts/{ana}/"))["phone"] == PHONE
    assert (await delivery.call("GET", f"/internal/contacts/{foreign}/")).status_code == 404


async def test_an_opt_out_refuses_by_contact_and_by_phone_also_when_deleted(mine: Any, neighbour: Any) -> None:
    ana = (await mine.contact(PHONE, opt_out=True))["id"]
    bea = (await mine.contact("0491570110"))["id"]
    for _ in range(2):
        assert (await asked(neighbour, contact_id=ana))[2] == "opted_out"
        assert (await asked(neighbour, phone=PHONE))[2] == "opted_out"
        assert (await asked(neighbour, contact_id=bea, phone=PHONE))[2] == "opted_out"
        await mine.call("DELETE", f"/api/contacts/{ana}/")


async def test_a_deleted_contact_is_refused_by_its_id(mine: Any, neighbour: Any) -> None:
    ana = (await mine.contact(PHONE, is_active=False))["id"]
    assert await asked(neighbour, contact_id=ana) == (ana, PHONE, "inactive")
    assert await asked(neighbour, phone=PHONE) == (None, PHONE, None)


async def test_what_is_not_there_or_no_recipient(mine: Any, neighbour: Any, theirs: Any) -> None:
    foreign = (await theirs.contact(PHONE, opt_out=True))["id"]
    for body, status in (({"contact_id": foreign}, 404), ({"contact_id": 999}, 404), ({}, 400), ({"phone": "1"}, 400)):
        assert (await neighbour.call("POST", "/internal/recipients/", json=body)).status_code == status
    assert (await asked(neighbour, phone=PHONE))[2] is None
    assert (await neighbour.call("GET", f"/internal/contacts/{foreign}/")).status_code == 404


@pytest.mark.parametrize("path", ["recipients/", "contacts/1/", "groups/1/", "groups/1/members/", "identity/"])
async def test_internal_routes_are_for_named_neighbours(client_of: Any, path: str) -> None:
    refused = {"identity/": ("delivery", "scheduling"), "contacts/1/": ("gateway",)}
    for issuer in refused.get(path, ("delivery", "gateway")):
        client = client_of("org_mine", issuer=issuer)
        method = "POST" if path in ("recipients/", "identity/") else "GET"
        answer = await client.call(method, "/internal/" + path, **({"json": {}} if method == "POST" else {}))
        assert answer.status_code == 401
