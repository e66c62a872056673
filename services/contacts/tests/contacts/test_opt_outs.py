"""Opt-outs and opt-ins of numbers: in any order, twice, and while contacts are being written."""

import itertools
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from common.events import ContactChanged, OptOutChanged
from contacts.contacts import service
from contacts.contacts.consumers import on_opt_out_changed
from contacts.contacts.loops import apply_opt_outs
from contacts.models import OPT_OUTS, WORK

from ..conftest import Stage

PHONE, SHOWN = "+61491570006", "0491570006"
OTHER = "+61491570110"
TIME = datetime(2026, 11, 1, 3, tzinfo=UTC)
SHOWN_TIME = "2026-11-01T03:00:00.000Z"
COLUMNS = ("opt_out", "opted_out_at", "opt_out_source", "opt_out_message_id")
OPTED_IN = (False, None, None, None)
OPTED_OUT = (True, SHOWN_TIME, "reply", 77)


def records(*events: OptOutChanged) -> list[Any]:
    return [
        SimpleNamespace(topic=e.topic, partition=0, offset=n, key=b"k", value=e.model_dump_json().encode())
        for n, e in enumerate(events)
    ]


def opt_out(version: int = 1, *, opted_out: bool = True, **changes: Any) -> OptOutChanged:
    values = {"organisation_id": "org_mine", "phone": PHONE, "changed_at": TIME, "source": "reply"}
    message_id = 77 if opted_out else 78
    return OptOutChanged(**{**values, "opted_out": opted_out, "message_id": message_id, "version": version, **changes})


def opt_in(version: int, **changes: Any) -> OptOutChanged:
    return opt_out(version, opted_out=False, **changes)


async def consume(stage: Stage, *events: OptOutChanged) -> None:
    """Consume the events as one batch."""
    await on_opt_out_changed(stage.database, records(*events))


async def shown(stage: Stage, contact_id: int) -> tuple[Any, ...]:
    """Return the opt-out of a contact as the API shows it."""
    contact = await stage.mine.get_contact(contact_id)
    return tuple(contact[name] for name in COLUMNS)


async def test_opt_out_of_a_number_opts_its_contact_out_and_is_published(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE))["id"]
    bea = (await stage.mine.add_contact(OTHER))["id"]
    foreign = await stage.theirs.add_contact(PHONE)
    await consume(stage, opt_out())
    assert (await shown(stage, ana), await shown(stage, bea)) == (OPTED_OUT, OPTED_IN)
    assert (await stage.theirs.get_contact(foreign["id"]))["opt_out"] is False
    [event] = await stage.events()
    [state] = event.contacts
    assert (event.organisation_id, state.contact_id, state.version, state.opt_out) == ("org_mine", ana, 2, True)
    assert (state.opt_out_source, state.opted_out_at) == ("reply", TIME)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_events_in_any_order_and_twice_end_in_the_highest_version(stage: Stage, order: tuple[int, ...]) -> None:
    ana = (await stage.mine.add_contact(PHONE))["id"]
    events = [opt_out(1), opt_in(2), opt_out(3, source="provider", message_id=None)]
    for number in [*order, *order]:
        await consume(stage, events[number], events[number])
    assert await shown(stage, ana) == (True, SHOWN_TIME, "provider", None)
    await consume(stage, *(events[number] for number in order), opt_in(4))
    assert await shown(stage, ana) == OPTED_IN


async def test_repeated_batch_with_an_unreadable_record_publishes_once(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE))["id"]
    good, bad = records(opt_out()), records(opt_out(2))
    bad[0].value, bad[0].offset = b'{"phone": 5}', 1
    for _ in range(2):
        await on_opt_out_changed(stage.database, [*bad, *good])
    assert await shown(stage, ana) == OPTED_OUT
    assert len(await stage.events()) == 1


async def test_opt_in_of_a_number_keeps_a_manual_opt_out(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE, opt_out=True))["id"]
    before = await shown(stage, ana)
    await consume(stage, opt_out(1))
    await consume(stage, opt_in(2))
    assert await shown(stage, ana) == before
    assert before[2] == "manual"


async def test_contact_created_with_an_opted_out_number_is_opted_out(stage: Stage) -> None:
    deleted = (await stage.mine.add_contact(OTHER))["id"]
    await stage.mine.delete_contact(deleted)
    await consume(stage, opt_out(), opt_out(phone=OTHER))
    ana = await stage.mine.add_contact(PHONE, opt_out=False)
    assert tuple(ana[name] for name in COLUMNS) == OPTED_OUT
    assert (await stage.mine.add_contact(OTHER))["id"] == deleted
    assert await shown(stage, deleted) == OPTED_OUT
    states = {s.contact_id: s.opt_out for e in await stage.events() for s in e.contacts}
    assert states == {deleted: True, ana["id"]: True}


async def test_contact_changed_to_an_opted_out_number_is_opted_out_and_stays_so(stage: Stage) -> None:
    await consume(stage, opt_out())
    contact = await stage.mine.add_contact(OTHER)
    path = f"/api/contacts/{contact['id']}/"
    await stage.mine.patch(path, {"phone": PHONE})
    assert await shown(stage, contact["id"]) == OPTED_OUT
    await stage.mine.patch(path, {"phone": OTHER})
    assert await shown(stage, contact["id"]) == OPTED_OUT
    assert "opt_out" in await stage.mine.patch(path, {"phone": PHONE, "opt_out": False}, 400)
    await stage.mine.patch(path, {"opt_out": False})
    assert await shown(stage, contact["id"]) == OPTED_IN


async def test_import_of_opted_out_numbers_creates_and_publishes_opted_out_contacts(stage: Stage) -> None:
    deleted = (await stage.mine.add_contact("0491570156"))["id"]
    await stage.mine.delete_contact(deleted)
    await consume(stage, opt_out(), opt_out(phone="+61491570156"), opt_in(1, phone="+61491570157"))
    answer = await stage.mine.upload("phone\n0491570006\n0491570110\n0491570156\n0491570157\n")
    assert (answer.status_code, answer.json()["imported"]) == (200, 4)
    listed = {c["phone"]: c for c in (await stage.mine.get("/api/contacts/"))["results"]}
    assert {phone: c["opt_out"] for phone, c in listed.items()} == {
        SHOWN: True,
        "0491570110": False,
        "0491570156": True,
        "0491570157": False,
    }
    assert await shown(stage, listed[SHOWN]["id"]) == OPTED_OUT
    states = {s.contact_id: s.opt_out for e in await stage.events() for s in e.contacts}
    assert states == {deleted: True, listed[SHOWN]["id"]: True}


async def test_contact_written_while_the_event_is_consumed_is_opted_out_by_the_loop(stage: Stage) -> None:
    known = (await stage.mine.add_contact(OTHER))["id"]
    async with stage.database.tenant("org_mine") as session:
        await session.execute(text("INSERT INTO contacts (phone) VALUES (:phone)"), {"phone": PHONE})
        await session.execute(text("SELECT FROM contacts WHERE id = :id FOR UPDATE"), {"id": known})
        await consume(stage, opt_out(), opt_out(phone=OTHER))  # neither waits for this transaction
    assert (await shown(stage, known)) == OPTED_IN
    assert await stage.database.find_work(WORK) == [OPT_OUTS]
    assert await apply_opt_outs(stage.database)
    assert not await apply_opt_outs(stage.database)
    for contact in (await stage.mine.get("/api/contacts/"))["results"]:
        assert await shown(stage, contact["id"]) == OPTED_OUT


async def test_manual_opt_in_of_an_opted_out_number_needs_a_confirmed_consent(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE))["id"]
    path = f"/api/contacts/{ana}/"
    await consume(stage, opt_out())
    for body in ({"opt_out": False}, {"opt_out": False, "confirm_opt_in": False}):
        error = await stage.mine.patch(path, body, 400)
        assert "START" in error["opt_out"][0]
        assert "confirm_opt_in" in error["opt_out"][0]
    await stage.mine.patch(path, {"confirm_opt_in": True, "first_name": "Ana"})
    as_read = await stage.mine.get(path)
    await stage.mine.put(path, as_read)
    assert await shown(stage, ana) == OPTED_OUT
    before = datetime.now(UTC)
    changed = await stage.mine.put(path, {**as_read, "opt_out": False, "confirm_opt_in": True})
    assert tuple(changed[name] for name in COLUMNS) == OPTED_IN
    assert "confirm_opt_in" not in changed
    state = (await stage.events())[-1].contacts[0]
    assert state.opt_out is False
    assert before <= state.opt_in_confirmed_at <= before + timedelta(seconds=60)
    await apply_opt_outs(stage.database)
    await consume(stage, opt_out())  # as old as the opt-out that was withdrawn
    assert await shown(stage, ana) == OPTED_IN
    await consume(stage, opt_out(2, message_id=90))
    assert (await shown(stage, ana))[3] == 90
    assert (await stage.events())[-1].contacts[0].opt_in_confirmed_at is None


async def test_confirmed_consent_ends_when_the_phone_changes(stage: Stage) -> None:
    ana = (await stage.mine.add_contact(PHONE))["id"]
    path = f"/api/contacts/{ana}/"
    await consume(stage, opt_out(), opt_out(phone=OTHER))
    await stage.mine.patch(path, {"opt_out": False, "confirm_opt_in": True})
    await stage.mine.patch(path, {"phone": OTHER})
    assert await shown(stage, ana) == OPTED_OUT
    state = (await stage.events())[-1].contacts[0]
    assert (state.phone, state.opt_out, state.opt_in_confirmed_at) == (OTHER, True, None)
    await stage.mine.patch(path, {"opt_out": False, "confirm_opt_in": True, "phone": PHONE})
    state = (await stage.events())[-1].contacts[0]
    assert (state.phone, state.opt_out, state.opt_in_confirmed_at) == (PHONE, False, None)


async def test_opted_out_number_without_a_contact_is_refused_as_recipient(stage: Stage) -> None:
    async def refused(**body: Any) -> Any:
        answer = await stage.scheduling.post("/internal/recipients/", {"recipients": [body]}, 200)
        return answer["recipients"][0]["refused"]

    bea = (await stage.mine.add_contact(OTHER))["id"]
    await consume(stage, opt_out(), opt_out(organisation_id="org_theirs", phone=OTHER))
    assert await refused(phone=PHONE) == "opted_out"
    assert await refused(contact_id=bea, phone=PHONE) == "opted_out"
    assert (await refused(phone=OTHER), await refused(contact_id=bea)) == (None, None)
    await consume(stage, opt_in(2))
    assert await refused(phone=PHONE) is None


async def test_republishing_publishes_recent_changes_of_all_organisations_in_batches(stage: Stage) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    changed = [(await stage.mine.add_contact(f"04915700{n:02d}", opt_out=True))["id"] for n in range(3)]
    changed.append((await stage.theirs.add_contact(PHONE, opt_out=True))["id"])
    await stage.mine.add_contact(OTHER)  # no other service has a copy of it
    old = (await stage.mine.add_contact("0491570156", opt_out=True))["id"]
    await stage.run_sql("UPDATE contacts SET updated_at = now() - interval '1 hour' WHERE id = :id", id=old)
    await stage.run_sql("DELETE FROM outbox")
    after: int | None = 0
    while after is not None:
        async with stage.database.all_tenants() as session:
            after = await service.republish_contacts(session, since, after, 2)
    events = [event for event in await stage.events() if isinstance(event, ContactChanged)]
    assert [(e.organisation_id, s.contact_id) for e in events for s in e.contacts] == [
        *(("org_mine", contact_id) for contact_id in changed[:3]),
        ("org_theirs", changed[3]),
    ]
