"""An opt-out is at delivery, and a deletion at scheduling, before the request is answered."""

from typing import Any

import pytest

from services.contacts.tests.conftest import Stage
from services.contacts.tests.other_services import StandIn

PHONE = "0491570006"


def states(server: StandIn) -> list[tuple[str, int, int, bool, bool]]:
    """Return (organisation, contact, version, active, opted out) of what a service was given."""
    return [
        (organisation, body["contact_id"], body["version"], body["is_active"], body["opt_out"])
        for organisation, body in server.saved
    ]


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_an_opt_out_is_at_delivery_when_it_is_answered(stage: Stage, method: str) -> None:
    contact = await stage.mine.add_contact(PHONE)
    assert not stage.delivery_server.saved
    path = f"/api/contacts/{contact['id']}/"
    answer = await stage.mine.call(method, path, json={"phone": PHONE, "opt_out": True})
    assert (answer.status_code, answer.json()["opt_out"]) == (200, True)
    assert states(stage.delivery_server) == [("org_mine", contact["id"], 2, True, True)]
    assert not stage.scheduling_server.saved


async def test_an_opt_in_is_at_delivery_when_it_is_answered(stage: Stage) -> None:
    contact = await stage.mine.add_contact(PHONE, opt_out=True)
    await stage.mine.patch(f"/api/contacts/{contact['id']}/", {"opt_out": False})
    assert states(stage.delivery_server) == [
        ("org_mine", contact["id"], 1, True, True),
        ("org_mine", contact["id"], 2, True, False),
    ]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "one"}])
async def test_a_contact_created_opted_out_is_at_delivery(stage: Stage, headers: dict[str, str]) -> None:
    body = {"phone": PHONE, "opt_out": True}
    for _ in range(2):
        sent = {**stage.mine.headers, **headers}
        answer = await stage.http.post("/api/contacts/", json=body, headers=sent)
        if not headers:
            break
    assert answer.status_code == 201
    assert states(stage.delivery_server) == [("org_mine", answer.json()["id"], 1, True, True)]


async def test_the_new_phone_of_an_opted_out_contact_is_at_delivery(stage: Stage) -> None:
    contact = await stage.mine.add_contact(PHONE, opt_out=True)
    await stage.mine.patch(f"/api/contacts/{contact['id']}/", {"phone": "0491570156"})
    assert [body["phone"] for _, body in stage.delivery_server.saved] == ["+61491570006", "+61491570156"]


@pytest.mark.parametrize(("method", "body"), [("DELETE", None), ("PATCH", {"is_active": False})])
async def test_a_deletion_is_at_scheduling_when_it_is_answered(stage: Stage, method: str, body: Any) -> None:
    contact = await stage.mine.add_contact(PHONE)
    answer = await stage.mine.call(method, f"/api/contacts/{contact['id']}/", json=body)
    assert answer.status_code in (200, 204)
    assert states(stage.scheduling_server) == [("org_mine", contact["id"], 2, False, False)]
    assert not stage.delivery_server.saved


async def test_an_opt_out_that_delivery_does_not_confirm_is_503_and_can_be_repeated(stage: Stage) -> None:
    contact = await stage.mine.add_contact(PHONE)
    path = f"/api/contacts/{contact['id']}/"
    stage.delivery_server.unavailable = True
    answer = await stage.mine.call("PATCH", path, json={"opt_out": True})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "delivery" in answer.json()["detail"]
    assert (await stage.mine.get_contact(contact["id"]))["opt_out"]
    stage.delivery_server.unavailable = False
    await stage.mine.patch(path, {"opt_out": True})
    assert states(stage.delivery_server) == [("org_mine", contact["id"], 2, True, True)]


async def test_a_deletion_that_scheduling_does_not_confirm_is_503_and_can_be_repeated(stage: Stage) -> None:
    contact = await stage.mine.add_contact(PHONE)
    path = f"/api/contacts/{contact['id']}/"
    stage.scheduling_server.unavailable = True
    assert (await stage.mine.call("DELETE", path)).status_code == 503
    stage.scheduling_server.unavailable = False
    assert (await stage.mine.call("DELETE", path)).status_code == 204
    assert states(stage.scheduling_server) == [("org_mine", contact["id"], 2, False, False)]


async def test_another_change_asks_nobody(stage: Stage) -> None:
    stage.delivery_server.unavailable = stage.scheduling_server.unavailable = True
    contact = await stage.mine.add_contact(PHONE)
    await stage.mine.patch(f"/api/contacts/{contact['id']}/", {"first_name": "Ana"})
