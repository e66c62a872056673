"""An opt-out whose phone was erased still refuses messages to the phone, until the person or a contact opts in."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
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
WAITS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


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


async def erase(stage: Stage, *organisations_with_opt_out: str, organisation: str | None = None) -> list[ErasedOptOut]:
    async with stage.database.all_tenants() as session:
        return await erasure.erase_opt_outs(session, PHONE, organisation, organisations_with_opt_out)


async def confirm(stage: Stage, at: datetime) -> None:
    """Apply a change of a contact with a consent that was confirmed at this time."""
    contact = ContactState(contact_id=9, version=2, phone=PHONE, is_active=True, opt_out=False, opt_in_confirmed_at=at)
    async with stage.database.all_tenants() as session:
        changed = ContactChanged(organisation_id=stage.organisation, contacts=(contact,))
        await service.apply_contact_changes(session, [changed])


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


async def assert_is_erased(stage: Stage) -> None:
    """Assert that the phone is opted out at the organisation and not stored, and that nothing was published."""
    assert await is_opted_out(stage, stage.organisation)
    assert await stage.rows("SELECT * FROM opt_outs") == []
    assert len(await stage.rows("SELECT 1 FROM erased_opt_outs")) == 1
    assert await stage.events() == []


@pytest.mark.usefixtures("erased")
async def test_a_start_of_before_the_opt_out_changes_nothing_and_does_not_store_the_phone(stage: Stage) -> None:
    await apply(stage, change(stage.organisation, opted_out=False, minutes=-1))
    await assert_is_erased(stage)


@pytest.mark.usefixtures("erased")
async def test_a_repeated_contact_change_of_before_the_opt_out_does_not_store_the_phone(stage: Stage) -> None:
    await confirm(stage, AT - timedelta(days=1))
    await assert_is_erased(stage)


@pytest.mark.usefixtures("erased")
async def test_a_newer_stop_moves_the_time_and_does_not_store_the_phone(stage: Stage) -> None:
    await apply(stage, change(stage.organisation, opted_out=True, minutes=9))
    await assert_is_erased(stage)
    await apply(stage, change(stage.organisation, opted_out=False, minutes=5))
    await assert_is_erased(stage)
    stop = change(stage.organisation, opted_out=True, minutes=11)
    await apply(stage, change(stage.organisation, opted_out=False, minutes=10), stop)
    await assert_is_erased(stage)
    assert [row.changed_at for row in await stage.rows("SELECT changed_at FROM erased_opt_outs")] == [stop.at]
    await apply(stage, change(stage.organisation, opted_out=False, minutes=12))
    assert not await is_opted_out(stage, stage.organisation)


@pytest.mark.usefixtures("erased")
async def test_a_refusal_by_a_provider_does_not_store_the_phone(stage: Stage) -> None:
    async with stage.database.all_tenants() as session:
        await service.add_provider_opt_outs(session, [(stage.organisation, PHONE)])
    await assert_is_erased(stage)


@pytest.mark.usefixtures("erased")
async def test_a_batch_with_other_numbers_stores_only_their_phones(stage: Stage) -> None:
    stop = change("org_other", opted_out=True)
    await apply(stage, change(stage.organisation, opted_out=False, minutes=-1), stop, replace(stop, phone=OTHER))
    rows = await stage.rows("SELECT organisation_id, phone, opted_out FROM opt_outs ORDER BY phone")
    assert [tuple(row) for row in rows] == [("org_other", PHONE, True), ("org_other", OTHER, True)]
    assert await is_opted_out(stage, stage.organisation)


@pytest.mark.usefixtures("erased")
async def test_a_newer_stop_waits_for_a_start_that_is_not_committed(stage: Stage) -> None:
    stop = change(stage.organisation, opted_out=True, minutes=2)
    async with stage.database.all_tenants() as session:
        await service.apply_opt_out_changes(session, [change(stage.organisation, opted_out=False, minutes=1)])
        waiting = asyncio.create_task(apply(stage, stop))
        while not (waiting.done() or await stage.rows(WAITS)):
            pass
    await waiting
    (row,) = await stage.rows("SELECT opted_out, changed_at, version FROM opt_outs")
    assert (row.opted_out, row.changed_at) == (True, stop.at)
    assert [event.opted_out for event in await stage.events()] == [False, True]
    assert row.version == (await stage.events())[-1].version
    assert await stage.rows("SELECT 1 FROM erased_opt_outs") == []


@pytest.mark.usefixtures("erased")
async def test_the_next_erasure_removes_the_phone_of_a_number_that_opted_in(stage: Stage) -> None:
    await apply(stage, change(stage.organisation, opted_out=False, minutes=1))
    assert await stage.rows("SELECT 1 FROM opt_outs WHERE phone = :phone", phone=PHONE)
    assert await erase(stage) == []
    assert await stage.rows("SELECT 1 FROM opt_outs") == []
    assert not await is_opted_out(stage, stage.organisation)


@pytest.mark.usefixtures("erased")
async def test_a_confirmed_consent_of_a_contact_opts_the_phone_in(stage: Stage) -> None:
    await confirm(stage, AT + timedelta(days=1))
    assert not await is_opted_out(stage, stage.organisation)
    assert [(event.opted_out, event.source) for event in await stage.events()] == [(False, "confirmed")]
