"""Numbers that stop and start, in any order, twice, and while contacts are being written."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from common.events import ContactChanged, OptOutChanged, OrganisationChanged
from contacts.contacts import service
from contacts.contacts.consumers import on_opt_out_changed
from contacts.contacts.loops import apply_opt_outs
from contacts.identity.service import republish_organisations

PHONE, SHOWN = "+61491570006", "0491570006"
OTHER = "+61491570110"
TIME = datetime(2026, 11, 1, 3, tzinfo=UTC)
PUBLISHED = "2026-11-01T03:00:00.000Z"
FIELDS = ("opt_out", "opted_out_at", "opt_out_source", "opt_out_message_id")
FREE = (False, None, None, None)
OPTED_OUT = (True, PUBLISHED, "reply", 77)


def records(*events: OptOutChanged) -> list[Any]:
    return [
        SimpleNamespace(topic=e.topic, partition=0, offset=n, key=b"k", value=e.model_dump_json().encode())
        for n, e in enumerate(events)
    ]


def stop(version: int = 1, *, opted_out: bool = True, **changes: Any) -> OptOutChanged:
    values = {
        "organisation_id": "org_mine",
        "phone": PHONE,
        "opted_out": opted_out,
        "changed_at": TIME,
        "source": "reply",
    }
    return OptOutChanged(**{**values, "message_id": 77 if opted_out else 78, "version": version, **changes})


@pytest.fixture
def hear(database: Any) -> Callable[..., Any]:
    """`await hear(event, …)`: the events come as one batch."""

    async def hear_them(*events: OptOutChanged) -> None:
        await on_opt_out_changed(database, records(*events))

    return hear_them


@pytest.fixture
def shown(mine: Any) -> Callable[..., Any]:
    """`await shown(id)`: what is told of a contact's opt-out."""

    async def read(contact_id: int) -> tuple[Any, ...]:
        contact = await mine.get(f"/api/contacts/{contact_id}/")
        return tuple(contact[name] for name in FIELDS)

    return read


async def test_a_stop_opts_the_contact_out_and_others_hear_of_it(
    mine: Any, theirs: Any, hear: Any, shown: Any, database: Any, outbox_events: Any
) -> None:
    ana, bea = (await mine.contact(PHONE))["id"], (await mine.contact(OTHER))["id"]
    foreign = await theirs.contact(PHONE)
    await hear(stop())
    assert (await shown(ana), await shown(bea)) == (OPTED_OUT, FREE)
    assert (await theirs.get(f"/api/contacts/{foreign['id']}/"))["opt_out"] is False
    [event] = await outbox_events(database)
    [state] = event.contacts
    assert (event.organisation_id, state.contact_id, state.version, state.opt_out) == ("org_mine", ana, 2, True)
    assert (state.opt_out_source, state.opted_out_at) == ("reply", TIME)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_highest_version_wins_in_any_order_and_twice(mine: Any, hear: Any, shown: Any, order: Any) -> None:
    ana = (await mine.contact(PHONE))["id"]
    told = [stop(1), stop(2, opted_out=False), stop(3, source="provider", message_id=None)]
    for number in [*order, *order]:
        await hear(told[number], told[number])
    assert await shown(ana) == (True, PUBLISHED, "provider", None)
    await hear(*(told[number] for number in order), stop(4, opted_out=False))
    assert await shown(ana) == FREE


async def test_a_repetition_publishes_nothing_and_a_malformed_record_stops_nobody(
    mine: Any, hear: Any, shown: Any, database: Any, outbox_events: Any
) -> None:
    ana = (await mine.contact(PHONE))["id"]
    good, bad = records(stop()), records(stop(2))
    bad[0].value, bad[0].offset = b'{"phone": 5}', 1
    for _ in range(2):
        await on_opt_out_changed(database, [*bad, *good])
    assert await shown(ana) == OPTED_OUT
    assert len(await outbox_events(database)) == 1


async def test_a_start_leaves_what_a_person_set(mine: Any, hear: Any, shown: Any) -> None:
    ana = (await mine.contact(PHONE, opt_out=True))["id"]
    before = await shown(ana)
    await hear(stop(1))
    await hear(stop(2, opted_out=False))
    assert await shown(ana) == before
    assert before[2] == "manual"


async def test_who_comes_later_with_a_stopped_phone_is_born_opted_out(
    mine: Any, hear: Any, shown: Any, database: Any, outbox_events: Any
) -> None:
    gone = (await mine.contact(OTHER))["id"]
    await mine.call("DELETE", f"/api/contacts/{gone}/")
    await hear(stop(), stop(phone=OTHER))
    ana = await mine.contact(PHONE, opt_out=False)
    assert tuple(ana[name] for name in FIELDS) == OPTED_OUT
    assert (await mine.contact(OTHER))["id"] == gone
    assert await shown(gone) == OPTED_OUT
    states = {s.contact_id: s.opt_out for e in await outbox_events(database) for s in e.contacts}
    assert states == {gone: True, ana["id"]: True}


async def test_a_phone_that_changes_to_a_stopped_one_opts_out_and_back_does_not_opt_in(
    mine: Any, hear: Any, shown: Any
) -> None:
    await hear(stop())
    made = await mine.contact(OTHER)
    path = f"/api/contacts/{made['id']}/"
    await mine.patch(path, {"phone": PHONE})
    assert await shown(made["id"]) == OPTED_OUT
    await mine.patch(path, {"phone": OTHER})
    assert await shown(made["id"]) == OPTED_OUT
    assert "opt_out" in await mine.patch(path, {"phone": PHONE, "opt_out": False}, 400)
    await mine.patch(path, {"opt_out": False})
    assert await shown(made["id"]) == FREE


async def test_an_import_makes_contacts_of_stopped_numbers_opted_out_and_tells_of_them(
    mine: Any, hear: Any, shown: Any, database: Any, outbox_events: Any
) -> None:
    gone = (await mine.contact("0491570156"))["id"]
    await mine.call("DELETE", f"/api/contacts/{gone}/")
    await hear(stop(), stop(phone="+61491570156"), stop(phone="+61491570157", opted_out=False))
    told = await mine.upload("phone\n0491570006\n0491570110\n0491570156\n0491570157\n")
    assert (told.status_code, told.json()["imported"]) == (200, 4)
    listed = {c["phone"]: c for c in (await mine.get("/api/contacts/"))["results"]}
    assert {phone: c["opt_out"] for phone, c in listed.items()} == {
        SHOWN: True,
        "0491570110": False,
        "0491570156": True,
        "0491570157": False,
    }
    assert await shown(listed[SHOWN]["id"]) == OPTED_OUT
    states = {s.contact_id: s.opt_out for e in await outbox_events(database) for s in e.contacts}
    assert states == {gone: True, listed[SHOWN]["id"]: True}


async def test_a_contact_written_while_the_stop_is_heard_is_opted_out_soon_after(
    mine: Any, hear: Any, shown: Any, database: Any
) -> None:
    known = (await mine.contact(OTHER))["id"]
    async with database.tenant("org_mine") as session:
        await session.execute(text("INSERT INTO contacts (phone) VALUES (:phone)"), {"phone": PHONE})
        await session.execute(text("SELECT FROM contacts WHERE id = :id FOR UPDATE"), {"id": known})
        await hear(stop(), stop(phone=OTHER))  # waits for neither
    assert (await shown(known)) == FREE
    assert await apply_opt_outs(database)
    assert not await apply_opt_outs(database)
    for contact in (await mine.get("/api/contacts/"))["results"]:
        assert await shown(contact["id"]) == OPTED_OUT


async def test_an_opt_in_by_hand_needs_a_confirmed_consent(
    mine: Any, hear: Any, shown: Any, database: Any, outbox_events: Any
) -> None:
    ana = (await mine.contact(PHONE))["id"]
    path = f"/api/contacts/{ana}/"
    await hear(stop())
    for body in ({"opt_out": False}, {"opt_out": False, "confirm_opt_in": False}):
        told = await mine.patch(path, body, 400)
        assert "START" in told["opt_out"][0]
        assert "confirm_opt_in" in told["opt_out"][0]
    await mine.patch(path, {"confirm_opt_in": True, "first_name": "Ana"})
    as_read = await mine.get(path)
    assert (await mine.call("PUT", path, json=as_read)).status_code == 200
    assert await shown(ana) == OPTED_OUT
    before = datetime.now(UTC)
    body = {**as_read, "opt_out": False, "confirm_opt_in": True}
    changed = (await mine.call("PUT", path, json=body)).json()
    assert tuple(changed[name] for name in FIELDS) == FREE
    assert "confirm_opt_in" not in changed
    state = (await outbox_events(database))[-1].contacts[0]
    assert state.opt_out is False
    assert before <= state.opt_in_confirmed_at <= before + timedelta(seconds=60)
    await apply_opt_outs(database)
    await hear(stop())  # as old as what was lifted
    assert await shown(ana) == FREE
    await hear(stop(2, message_id=90))
    assert (await shown(ana))[3] == 90
    assert (await outbox_events(database))[-1].contacts[0].opt_in_confirmed_at is None


async def test_a_confirmed_consent_is_for_the_number_of_then(
    mine: Any, hear: Any, shown: Any, database: Any, outbox_events: Any
) -> None:
    ana = (await mine.contact(PHONE))["id"]
    path = f"/api/contacts/{ana}/"
    await hear(stop(), stop(phone=OTHER))
    await mine.patch(path, {"opt_out": False, "confirm_opt_in": True})
    await mine.patch(path, {"phone": OTHER})
    assert await shown(ana) == OPTED_OUT
    state = (await outbox_events(database))[-1].contacts[0]
    assert (state.phone, state.opt_out, state.opt_in_confirmed_at) == (OTHER, True, None)
    await mine.patch(path, {"opt_out": False, "confirm_opt_in": True, "phone": PHONE})
    state = (await outbox_events(database))[-1].contacts[0]
    assert (state.phone, state.opt_out, state.opt_in_confirmed_at) == (PHONE, False, None)


async def test_a_number_without_a_contact_is_refused_while_it_stopped(mine: Any, neighbour: Any, hear: Any) -> None:
    async def refused(**body: Any) -> Any:
        return (await neighbour.post("/internal/recipients/", body, 200))["refused"]

    bea = (await mine.contact(OTHER))["id"]
    await hear(stop(), stop(organisation_id="org_theirs", phone=OTHER))
    assert await refused(phone=PHONE) == "opted_out"
    assert await refused(contact_id=bea, phone=PHONE) == "opted_out"
    assert (await refused(phone=OTHER), await refused(contact_id=bea)) == (None, None)
    await hear(stop(2, opted_out=False))
    assert await refused(phone=PHONE) is None


async def test_what_others_heard_of_is_published_again_batch_by_batch(
    mine: Any, theirs: Any, client_of: Any, database: Any, outbox_events: Any, run_sql: Any
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    changed = [(await mine.contact(f"04915700{n:02d}", opt_out=True))["id"] for n in range(3)]
    changed.append((await theirs.contact(PHONE, opt_out=True))["id"])
    await mine.contact(OTHER)  # nobody holds a copy of it
    old = (await mine.contact("0491570156", opt_out=True))["id"]
    await run_sql("UPDATE contacts SET updated_at = now() - interval '1 hour' WHERE id = :id", id=old)
    await run_sql("DELETE FROM outbox")
    after: int | None = 0
    while after is not None:
        async with database.all_tenants() as session:
            after = await service.republish_contacts(session, since, after, 2)
    events = [e for e in await outbox_events(database) if isinstance(e, ContactChanged)]
    assert [(e.organisation_id, s.contact_id) for e in events for s in e.contacts] == [
        *(("org_mine", contact_id) for contact_id in changed[:3]),
        ("org_theirs", changed[3]),
    ]


async def test_organisations_that_closed_or_opened_are_published_again(
    database: Any, outbox_events: Any, run_sql: Any
) -> None:
    await run_sql(
        "INSERT INTO organisations (organisation_id, version, deleted_at, updated_at) VALUES ('a', 2, now(), now()),"
        " ('b', 3, NULL, now()), ('c', 1, NULL, now()), ('d', 2, now(), now() - interval '1 hour')"
    )
    since, after, rounds = datetime.now(UTC) - timedelta(minutes=5), "", 0
    while after is not None:
        async with database.all_tenants() as session:
            after = await republish_organisations(session, since, after, 1)
        rounds += 1
    events = [e for e in await outbox_events(database) if isinstance(e, OrganisationChanged)]
    assert [(e.organisation_id, e.closed, e.version) for e in events] == [("a", True, 2), ("b", False, 3)]
    assert rounds == 3
