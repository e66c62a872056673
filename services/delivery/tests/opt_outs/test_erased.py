"""An opt-out whose phone was erased still refuses messages to the phone, until the person or a contact opts in."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from common.events import ContactChanged, ContactState, OptOutChanged
from delivery.erasure import service as erasure
from delivery.opt_outs import service
from delivery.opt_outs.rules import ErasedOptOut, OptOutChange
from services.delivery.tests.stage import Stage

PHONE, OTHER = "+61453000001", "+61453000002"
AT = datetime(2026, 4, 4, 16, 30, tzinfo=UTC)


def change(organisation: str, *, opted_out: bool, minutes: int = 0) -> OptOutChange:
    return OptOutChange(
        organisation_id=organisation,
        phone=PHONE,
        opted_out=opted_out,
        at=AT + timedelta(minutes=minutes),
        source="reply",
    )


async def apply(stage: Stage, *changes: OptOutChange) -> None:
    async with stage.database.all_tenants() as session:
        await service.apply_opt_out_changes(session, changes)


async def erase(stage: Stage, *opted_out_at: str, organisation: str | None = None) -> list[ErasedOptOut]:
    async with stage.database.all_tenants() as session:
        return await erasure.erase_opt_outs(session, PHONE, organisation, opted_out_at)


async def is_opted_out(stage: Stage, organisation: str) -> bool:
    async with stage.database.tenant(organisation) as session:
        return bool(await service.find_opted_out(session, [(organisation, PHONE)]))


@pytest.fixture
async def erased(stage: Stage) -> ErasedOptOut:
    """Opt the phone out at the organisation, then erase the phone."""
    await apply(stage, change(stage.organisation, opted_out=True))
    (opt_out,) = await erase(stage)
    await stage.execute("DELETE FROM outbox")
    return opt_out


async def test_the_phone_is_nowhere_and_the_opt_out_is_newer_than_every_event(stage: Stage) -> None:
    await apply(stage, change(stage.organisation, opted_out=True), change("org_other", opted_out=True))
    await apply(stage, change("org_other", opted_out=False, minutes=1))
    last = max(event.version for event in await stage.events() if isinstance(event, OptOutChanged))
    await stage.execute("DELETE FROM outbox")
    (opt_out,) = await erase(stage)
    assert (opt_out.organisation_id, opt_out.changed_at, opt_out.source) == (stage.organisation, AT, "reply")
    assert opt_out.version > last
    assert await stage.rows("SELECT 1 FROM opt_outs") == []
    assert await stage.events() == [], "an event would have the phone"
    (row,) = await stage.rows("SELECT CAST(to_jsonb(e) AS text) AS shown FROM erased_opt_outs e")
    assert PHONE[1:] not in row.shown
    assert await erase(stage) == [opt_out], "an interrupted erasure finds it again"


async def test_the_hash_differs_between_organisations_and_needs_the_key(stage: Stage) -> None:
    await apply(stage, change(stage.organisation, opted_out=True), change("org_other", opted_out=True))
    await erase(stage)
    rows = await stage.rows(
        "SELECT phone_hash, sha256(convert_to(organisation_id || ' ' || :phone, 'UTF8')) AS plain FROM erased_opt_outs",
        phone=PHONE,
    )
    assert len({row.phone_hash for row in rows}) == 2
    assert all(row.phone_hash != row.plain for row in rows)


@pytest.mark.usefixtures("erased")
async def test_a_message_to_the_phone_is_refused_at_this_organisation_alone(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due(phone=OTHER), stage.due(organisation_id="org_other"))
    assert await stage.failures() == [("failed", "opted_out"), ("queued", None), ("queued", None)]
    assert (await is_opted_out(stage, stage.organisation), await is_opted_out(stage, "org_other")) == (True, False)
    async with stage.database.tenant(stage.organisation) as session:
        assert await service.count_opted_out(session) == 1


async def test_a_queued_message_is_refused_at_the_claim(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due(phone=OTHER))
    await erase(stage, stage.organisation, stage.organisation)
    await stage.send(stage.make_worker())
    assert await stage.failures() == [("failed", "opted_out"), ("sent", None)]


async def test_an_unknown_message_is_not_sent_again(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.answer(500))
    worker = stage.make_worker()
    await stage.send(worker)
    assert await stage.statuses() == ["unknown"]
    await erase(stage, stage.organisation)
    await stage.resend(worker)
    assert await stage.statuses() == ["unknown"]


@pytest.mark.usefixtures("erased")
async def test_a_reservation_is_refused(
    stage: Stage, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    one = {"format": "sms", "parts": 1, "scheduled_time": "2026-04-10T00:00:00Z"}
    for organisation, expected in ((stage.organisation, "opted_out"), ("org_other", None)):
        headers = bearer("delivery", organisation, issuer="scheduling")
        body = {"reservations": [{"reference": str(uuid4()), "phone": PHONE, **one}]}
        answer = await client.post("/internal/reservations/", json=body, headers=headers)
        assert [found["code"] for found in answer.json()["reservations"]] == [expected]


async def test_one_organisation_is_erased_and_a_contacts_own_opt_out_stays(stage: Stage) -> None:
    await apply(stage, change("org_other", opted_out=True))
    (opt_out,) = await erase(stage, stage.organisation, organisation=stage.organisation)
    assert opt_out.organisation_id == stage.organisation
    assert await is_opted_out(stage, stage.organisation)
    assert [row.organisation_id for row in await stage.rows("SELECT organisation_id FROM opt_outs")] == ["org_other"]


async def test_a_start_of_the_phone_opts_it_in_and_is_published(stage: Stage, erased: ErasedOptOut) -> None:
    await apply(stage, change(stage.organisation, opted_out=False, minutes=1))
    (event,) = await stage.events()
    assert (event.phone, event.opted_out, event.version > erased.version) == (PHONE, False, True)
    assert await stage.rows("SELECT 1 FROM erased_opt_outs") == []
    await stage.add_due(stage.due())
    assert await stage.statuses() == ["queued"]


@pytest.mark.usefixtures("erased")
async def test_an_older_start_changes_nothing(stage: Stage) -> None:
    await apply(stage, change(stage.organisation, opted_out=False, minutes=-1))
    assert await is_opted_out(stage, stage.organisation)
    assert await stage.events() == []


@pytest.mark.usefixtures("erased")
async def test_a_confirmed_consent_of_a_contact_opts_the_phone_in(stage: Stage) -> None:
    contact = ContactState(
        contact_id=9, version=2, phone=PHONE, is_active=True, opt_out=False, opt_in_confirmed_at=AT + timedelta(days=1)
    )
    async with stage.database.all_tenants() as session:
        changed = ContactChanged(organisation_id=stage.organisation, contacts=(contact,))
        await service.apply_contact_changes(session, [changed])
    assert not await is_opted_out(stage, stage.organisation)
    assert [(event.opted_out, event.source) for event in await stage.events()] == [(False, "confirmed")]
