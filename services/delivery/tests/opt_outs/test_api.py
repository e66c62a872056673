"""Contacts saves an opt-out at delivery before it answers: from then on nothing is accepted or submitted."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.delivery.tests.stage import Stage

PHONE = "+61453000007"
Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def save(client: httpx.AsyncClient, bearer: Bearer, organisation: str) -> Callable[..., Any]:
    """`await save(version, opt_out)` saves the state of contact 7, as contacts does."""

    async def save_contact(version: int, *, opt_out: bool, **more: Any) -> int:
        body = {"contact_id": 7, "version": version, "phone": PHONE, "is_active": True, "opt_out": opt_out, **more}
        headers = bearer("delivery", organisation, issuer="contacts")
        return (await client.put("/internal/contacts/", json=body, headers=headers)).status_code

    return save_contact


async def test_a_queued_message_is_not_submitted_after_the_opt_out(stage: Stage, save: Callable[..., Any]) -> None:
    await stage.add_due(stage.due(contact_id=7), stage.due(phone=PHONE), stage.due(contact_id=8))
    assert await save(2, opt_out=True) == 204
    await stage.send(stage.make_worker())
    assert await stage.failures() == [("failed", "opted_out"), ("failed", "opted_out"), ("sent", None)]


async def test_an_older_state_changes_nothing_and_a_newer_one_opts_in(stage: Stage, save: Callable[..., Any]) -> None:
    assert await save(3, opt_out=True) == 204
    assert await save(2, opt_out=False) == 204
    await stage.add_due(stage.due(contact_id=7))
    assert await save(4, opt_out=False) == 204
    await stage.add_due(stage.due(contact_id=7))
    assert await stage.statuses() == ["failed", "queued"]


async def test_a_confirmed_opt_in_ends_the_opt_out_of_the_number(stage: Stage, save: Callable[..., Any]) -> None:
    await stage.opt_out(PHONE)
    assert await save(2, opt_out=False, opt_in_confirmed_at="2036-01-01T00:00:00Z") == 204
    rows = await stage.rows("SELECT opted_out FROM opt_outs")
    assert not any(row.opted_out for row in rows)


async def test_a_reservation_for_an_opted_out_recipient_is_refused(
    stage: Stage, save: Callable[..., Any], client: httpx.AsyncClient, bearer: Bearer
) -> None:
    await save(2, opt_out=True)
    body = {"format": "sms", "parts": 1, "scheduled_time": "2026-04-10T00:00:00Z"}

    async def reserve(organisation: str, *recipients: dict[str, Any]) -> list[str | None]:
        headers = bearer("delivery", organisation, issuer="scheduling")
        given = [{**body, "reference": str(uuid4()), **recipient} for recipient in recipients]
        answer = await client.post("/internal/reservations/", json={"reservations": given}, headers=headers)
        return [one["code"] for one in answer.json()["reservations"]]

    assert await reserve(stage.organisation, {"phone": PHONE}) == ["opted_out"]
    assert await reserve(stage.organisation, {"phone": "+61453000009", "contact_id": 7}) == ["opted_out"]
    assert await stage.usage() == 0
    free = {"phone": "+61453000009", "contact_id": 8}
    assert await reserve(stage.organisation, free, {"phone": PHONE}, free) == [None, "opted_out", None]
    assert await stage.usage() == 2
    assert await reserve("org_other", {"phone": PHONE, "contact_id": 7}) == [None]


async def test_the_route_is_only_for_contacts(client: httpx.AsyncClient, bearer: Bearer, organisation: str) -> None:
    body = {"contact_id": 7, "version": 1, "phone": PHONE, "is_active": True, "opt_out": True}
    for headers in ({}, bearer("delivery", organisation), bearer("delivery", organisation, issuer="scheduling")):
        assert (await client.put("/internal/contacts/", json=body, headers=headers)).status_code == 401
