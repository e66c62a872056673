"""From due to ScheduleDue, with the claims as the workers make them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from common.events import ContactChanged, ContactState, OrganisationChanged
from scheduling.batches.loops import finish_batches, fan_out_batches, release_reservations
from scheduling.recipients.service import apply_contact_changed
from scheduling.schedules.service import apply_organisation_changed


async def test_what_is_due_goes_out_once_and_what_is_not_stays(
    soon, client, contacts, organisation, make_due, dispatch, database, outbox_events
):
    ana = contacts.add(organisation, {"first_name": "Ana"})
    due = await client.ok(
        "POST",
        "/api/schedules/",
        {"contact": ana["contact_id"], "text": "Hi {{first_name}}", "scheduled_time": soon},
    )
    later = await client.ok("POST", "/api/schedules/", {"phone": "0491000999", "text": "Later", "scheduled_time": soon})
    await make_due(due["id"])
    await dispatch()
    await dispatch()
    [event] = await outbox_events(database)
    assert (event.schedule_id, event.dispatch_number, event.text, event.lane, event.reservation) == (
        due["id"],
        1,
        "Hi Ana",
        "single",
        None,
    )
    assert (await client.ok("GET", f"/api/schedules/{due['id']}/"))["status"] == "processing"
    assert (await client.ok("GET", f"/api/schedules/{later['id']}/"))["status"] == "pending"


async def test_a_batch_expands_goes_out_and_ends(
    client, other, contacts, delivery, services, organisation, database, dispatch, make_batch, make_due, outbox_events
):
    batch = await make_batch(120)
    assert batch["child_count"] == 120
    assert len(batch["schedules"]) == 50
    detail = await client.ok("GET", f"/api/group-schedules/{batch['id']}/")
    assert detail["counts"]["pending"] == 120
    while await fan_out_batches(database, services):
        pass
    await make_due()
    await dispatch()
    events = await outbox_events(database)
    assert len(events) == len({event.schedule_id for event in events}) == 120
    assert {event.text for event in events} == {f"Hi First{n}" for n in range(1, 121)}
    assert {event.lane for event in events} == {"bulk"}
    assert {event.batch_id for event in events} == {batch["id"]}
    detail = await client.ok("GET", f"/api/group-schedules/{batch['id']}/?page=3")
    assert detail["status"] == "processing"
    assert detail["counts"] == {"pending": 0, "processing": 120, "sent": 0, "delivered": 0, "failed": 0, "cancelled": 0}
    assert len(detail["schedules"]) == 20
    assert (await other("GET", f"/api/group-schedules/{batch['id']}/")).status_code == 404


async def test_only_a_window_of_a_batch_is_in_processing(make_batch, make_due, dispatch, database, outbox_events):
    await make_batch(40)
    await make_due()
    await dispatch(bulk_window=25)
    assert len(await outbox_events(database)) == 25


async def test_batches_with_a_message_left_for_later_keep_no_other_batch_waiting(
    client, make_batch, make_due, dispatch, database, outbox_events
):
    held_up = [await make_batch(1) for _ in range(51)]
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    for batch in held_up[:50]:
        [child] = batch["schedules"]
        await client.ok("PATCH", f"/api/schedules/{child['id']}/", {"scheduled_time": later})
    await make_due(*(batch["id"] for batch in held_up))
    await dispatch()
    [event] = await outbox_events(database)
    assert event.batch_id == held_up[50]["id"]


async def test_single_sends_do_not_wait_for_a_batch(
    soon, client, make_batch, make_due, dispatch, database, outbox_events
):
    await make_batch(40)
    single = await client.ok("POST", "/api/schedules/", {"phone": "0491000999", "text": "x", "scheduled_time": soon})
    await make_due()
    await dispatch(bulk_window=5)
    assert single["id"] in {event.schedule_id for event in await outbox_events(database)}


async def test_two_dispatchers_at_once_hand_over_everything_once(
    soon, make_batch, make_due, dispatch, database, outbox_events, client
):
    await make_batch(50)
    for number in range(20):
        body = {"phone": f"04910009{number:02d}", "text": "x", "scheduled_time": soon}
        await client.ok("POST", "/api/schedules/", body)
    await make_due()
    await asyncio.gather(*(dispatch() for _ in range(4)))
    await dispatch()
    ids = [event.schedule_id for event in await outbox_events(database)]
    assert len(ids) == len(set(ids)) == 70


def state(contact, **changes):
    return ContactState.model_validate({**contact, **changes})


async def test_what_was_heard_before_a_schedule_was_written_counts_at_dispatch(
    soon, client, contacts, organisation, make_due, dispatch, database, outbox_events
):
    people = [contacts.add(organisation) for _ in range(3)]
    async with database.all_tenants() as session:
        changes = [
            state(people[0], version=2, fields={"first_name": "Bea"}, phone="+61491000777"),
            state(people[1], version=2, opt_out=True),
            state(people[2], version=2, is_active=False),
        ]
        await apply_contact_changed(session, [ContactChanged(organisation_id=organisation, contacts=tuple(changes))])
    made = [
        await client.ok(
            "POST",
            "/api/schedules/",
            {"contact": person["contact_id"], "text": "Hi {{first_name}}", "scheduled_time": soon},
        )
        for person in people
    ]
    await make_due()
    await dispatch()
    [event] = await outbox_events(database)
    assert (event.schedule_id, event.text, event.phone) == (made[0]["id"], "Hi Bea", "+61491000777")
    shown = [await client.ok("GET", f"/api/schedules/{schedule['id']}/") for schedule in made]
    assert [s["status"] for s in shown] == ["processing", "failed", "cancelled"]
    assert shown[1]["failure_category"] == "opted_out"


async def test_a_child_that_is_too_long_once_filled_fails_and_the_others_go(
    contacts, organisation, make_batch, make_due, dispatch, database, outbox_events, client
):
    batch = await make_batch(3, text="{{company}} " + "x" * 1500)
    async with database.all_tenants() as session:
        long = state(contacts.contacts[2], version=2, fields={"company": "y" * 200})
        await apply_contact_changed(session, [ContactChanged(organisation_id=organisation, contacts=(long,))])
    await make_due()
    await dispatch()
    assert len(await outbox_events(database)) == 2
    detail = await client.ok("GET", f"/api/group-schedules/{batch['id']}/")
    assert (detail["counts"]["failed"], detail["counts"]["processing"]) == (1, 2)
    assert {s["failure_category"] for s in detail["schedules"]} == {None, "content_rejected"}


async def test_a_closed_organisation_sends_nothing_and_is_refused(
    soon, client, other, contacts, organisation, make_batch, make_due, dispatch, database, outbox_events
):
    await make_batch(3)
    body = {"phone": "0491000999", "text": "x", "scheduled_time": soon}
    await client.ok("POST", "/api/schedules/", body)
    theirs = await other.ok("POST", "/api/schedules/", body)
    closed = OrganisationChanged(organisation_id=organisation, closed=True, version=2)
    stale = OrganisationChanged(organisation_id=organisation, closed=False, version=1)
    for events in ([stale, closed], [closed], [stale]):
        async with database.all_tenants() as session:
            await apply_organisation_changed(session, events)
    assert (await client("POST", "/api/schedules/", body)).status_code == 403
    send = {"message": "x", "recipient": "0491000999"}
    assert (await client("POST", "/api/sms/send/", send)).status_code == 403
    assert (await client("POST", "/api/sms/send-to-group/", {"message": "x", "group_id": 1})).status_code == 403
    assert (await other("POST", "/api/sms/send/", send)).status_code == 202
    await make_due()
    await dispatch()
    events = await outbox_events(database)
    assert {event.organisation_id for event in events} == {"org_other"}
    assert theirs["id"] in {event.schedule_id for event in events}
    async with database.all_tenants() as session:
        opened = OrganisationChanged(organisation_id=organisation, closed=False, version=3)
        await apply_organisation_changed(session, [opened])
    days = await client.ok("GET", "/api/schedules/?status=cancelled&date_from=2020-01-01")
    assert days["pagination"]["total"] == 1


async def test_a_hold_is_drawn_on_by_the_first_run_and_given_back_at_the_end(
    client, contacts, delivery, services, organisation, dispatch, database, outbox_events, run_sql
):
    group = contacts.add_group(organisation, [contacts.add(organisation)["contact_id"] for _ in range(2)])
    sent = await client.ok("POST", "/api/sms/send-to-group/", {"message": "Hi", "group_id": group})
    [(reference, reservation)] = delivery.reservations.items()
    assert reservation["parts"] == 2
    await dispatch()
    assert {str(event.reservation) for event in await outbox_events(database)} == {reference}
    await finish_batches(database)
    assert not await release_reservations(database, services)
    await run_sql("UPDATE schedules SET status = 'sent' WHERE kind = 'batch_message'")
    await finish_batches(database)
    delivery.unavailable = True
    with pytest.raises(Exception, match="delivery"):
        await release_reservations(database, services)
    delivery.unavailable = False
    await release_reservations(database, services)
    assert delivery.released == [reference]
    assert (await client.ok("GET", f"/api/group-schedules/{sent['group_schedule_id']}/"))["status"] == "sent"
    assert not await release_reservations(database, services)
