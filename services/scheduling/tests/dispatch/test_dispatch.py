"""From a due schedule to its ScheduleDue, with the claims as the workers make them."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from common.events import ScheduleDue
from scheduling.batches.service import claim_fan_out, lock_batch
from scheduling.dispatch.rules import DueSchedule, Refusal, decide
from scheduling.models import Address, Content
from services.scheduling.tests.stage import Stage


async def test_a_due_schedule_is_dispatched_once_and_a_later_one_stays(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana"})
    due = await stage.make_schedule(contact=ana["contact_id"], text="Hi {{first_name}}")
    later = await stage.make_schedule(text="Later")
    await stage.make_due(due["id"])
    await stage.dispatch()
    await stage.dispatch()
    [event] = await stage.dispatches()
    assert (event.schedule_id, event.dispatch_number, event.text) == (due["id"], 1, "Hi Ana")
    assert (event.lane, event.reservation) == ("single", None)
    assert (await stage.show(due["id"]))["status"] == "processing"
    assert (await stage.show(later["id"]))["status"] == "pending"


async def test_only_a_window_of_a_batch_is_in_processing(stage: Stage) -> None:
    await stage.make_batch(40)
    await stage.make_due()
    await stage.dispatch(bulk_window=25)
    assert len(await stage.dispatches()) == 25


async def test_a_full_window_is_refilled_when_it_has_room_for_a_tenth_of_itself(stage: Stage) -> None:
    await stage.make_batch(60)
    await stage.fan_out()
    await stage.make_due()
    await stage.dispatch(bulk_window=50)
    assert len(await stage.dispatches()) == 50
    end_some = """
        UPDATE schedules SET status = 'sent' WHERE id = ANY(ARRAY(
            SELECT id FROM schedules WHERE kind = 'batch_message' AND status = 'processing' ORDER BY id LIMIT :number))
    """
    await stage.rows(end_some, number=4)
    await stage.dispatch(bulk_window=50)
    assert len(await stage.dispatches()) == 50
    await stage.rows(end_some, number=1)
    await stage.dispatch(bulk_window=50)
    assert len(await stage.dispatches()) == 55


async def test_batches_with_messages_for_later_keep_no_other_batch_waiting(stage: Stage) -> None:
    batches = [await stage.make_batch(1) for _ in range(51)]
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    for batch in batches[:50]:
        [message] = batch["schedules"]
        await stage.client.ok("PATCH", f"/api/schedules/{message['id']}/", {"scheduled_time": later})
    await stage.make_due(*(batch["id"] for batch in batches))
    await stage.dispatch()
    [event] = await stage.dispatches()
    assert event.batch_id == batches[50]["id"]


async def test_a_single_send_does_not_wait_for_a_batch(stage: Stage) -> None:
    await stage.make_batch(40)
    single = await stage.make_schedule()
    await stage.make_due()
    await stage.dispatch(bulk_window=5)
    assert single["id"] in {event.schedule_id for event in await stage.dispatches()}


async def test_concurrent_dispatchers_dispatch_everything_once(stage: Stage) -> None:
    await stage.make_batch(50)
    for number in range(20):
        await stage.make_schedule(phone=f"04910009{number:02d}")
    await stage.make_due()
    await asyncio.gather(*(stage.dispatch() for _ in range(4)))
    await stage.dispatch()
    ids = [event.schedule_id for event in await stage.dispatches()]
    assert len(ids) == len(set(ids)) == 70


async def test_a_batch_is_dispatched_while_it_is_fanned_out_but_not_while_it_is_cancelled(stage: Stage) -> None:
    batch = await stage.make_batch(60)
    await stage.make_due()
    async with stage.database.all_tenants() as session:
        await lock_batch(session, batch["id"])  # what a cancellation does first
        await stage.dispatch()
        assert await stage.dispatches() == []
    await stage.dispatch(bulk_window=20)
    async with stage.database.all_tenants() as session:
        assert await claim_fan_out(session) is not None
        await stage.dispatch()
        assert len(await stage.dispatches()) == 50


async def test_contact_changes_that_arrived_before_the_schedule_apply_at_dispatch(stage: Stage) -> None:
    ana, bob, cam = (stage.make_contact() for _ in range(3))
    await stage.change_contacts(
        {**ana, "version": 2, "fields": {"first_name": "Bea"}, "phone": "+61491000777"},
        {**bob, "version": 2, "opt_out": True},
        {**cam, "version": 2, "is_active": False},
    )
    made = [
        await stage.make_schedule(contact=contact["contact_id"], text="Hi {{first_name}}")
        for contact in (ana, bob, cam)
    ]
    await stage.make_due()
    await stage.dispatch()
    [event] = await stage.dispatches()
    assert (event.schedule_id, event.text, event.phone) == (made[0]["id"], "Hi Bea", "+61491000777")
    shown = [await stage.show(schedule["id"]) for schedule in made]
    assert [s["status"] for s in shown] == ["processing", "failed", "cancelled"]
    assert shown[1]["failure_category"] == "opted_out"


async def test_a_message_that_is_too_long_once_filled_fails_and_the_others_are_sent(stage: Stage) -> None:
    batch = await stage.make_batch(3, text="{{company}} " + "x" * 1500)
    second = stage.contacts.contacts[2]
    await stage.change_contacts({**second, "version": 2, "fields": {"company": "y" * 200}})
    await stage.make_due()
    await stage.dispatch()
    assert len(await stage.dispatches()) == 2
    detail = await stage.show_batch(batch["id"])
    assert (detail["counts"]["failed"], detail["counts"]["processing"]) == (1, 2)
    assert {s["failure_category"] for s in detail["schedules"]} == {None, "content_rejected"}


def due_schedule(*, dispatch_number: int = 0, text: str = "Hi", is_organisation_closed: bool = False) -> DueSchedule:
    return DueSchedule(
        id=5,
        organisation_id="org_1",
        batch_id=None,
        address=Address("+61491000999"),
        content=Content(text=text, format="sms"),
        scheduled_time=datetime(2026, 12, 1, tzinfo=UTC),
        dispatch_number=dispatch_number,
        reservation=UUID(int=7),
        request_id="req-1",
        is_organisation_closed=is_organisation_closed,
    )


def test_only_the_first_dispatch_uses_the_reservation() -> None:
    first, second = decide(due_schedule(), 10), decide(due_schedule(dispatch_number=1), 10)
    assert isinstance(first, ScheduleDue)
    assert isinstance(second, ScheduleDue)
    assert (first.dispatch_number, first.reservation) == (1, UUID(int=7))
    assert (second.dispatch_number, second.reservation) == (2, None)
    assert first.event_id == ScheduleDue.id_of(5, 1) != second.event_id


def test_a_schedule_of_a_closed_organisation_is_cancelled_and_an_empty_text_fails() -> None:
    closed, empty = decide(due_schedule(is_organisation_closed=True), 10), decide(due_schedule(text=""), 10)
    assert isinstance(closed, Refusal)
    assert isinstance(empty, Refusal)
    assert closed.failure_category is None
    assert (empty.failure_category, empty.error) == ("content_rejected", "The message has no text.")
