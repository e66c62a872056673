"""A change or a cancellation against the dispatch: never both, whoever wins."""

import asyncio

from scheduling.dispatch import repository as claims
from scheduling.dispatch.rules import decide


async def test_never_both_cancelled_and_sent(client, make_schedule, make_due, dispatch, database, outbox_events):
    made = [await make_schedule() for _ in range(20)]
    await make_due()

    async def cancel(schedule):
        answer = await client("DELETE", f"/api/schedules/{schedule['id']}/")
        return schedule["id"] if answer.status_code == 204 else None

    results = await asyncio.gather(*(cancel(s) for s in made[:10]), dispatch(), *(cancel(s) for s in made[10:]))
    cancelled = {schedule_id for schedule_id in results if schedule_id is not None}
    await dispatch()
    sent = {event.schedule_id for event in await outbox_events(database)}
    assert cancelled | sent == {s["id"] for s in made}
    assert not cancelled & sent


async def test_a_cancellation_waits_for_a_dispatch_that_is_under_way(
    client, make_schedule, make_due, dispatch, database
):
    made = await make_schedule()
    await make_due()
    async with database.all_tenants() as session:
        assert await claims.claim_singles_all_tenants(session, 10) == [made["id"]]
        cancel = asyncio.create_task(client("DELETE", f"/api/schedules/{made['id']}/"))
        [due] = await claims.read_pending_all_tenants(session, [made["id"]])
        await claims.mark_dispatched_all_tenants(session, [decide(due, 10)], 20)
        assert not cancel.done()
    assert (await cancel).status_code == 400


async def test_a_batch_cancelled_under_dispatch_says_what_was_handed_over(
    client, make_batch, make_due, dispatch, database, outbox_events
):
    batch = await make_batch(50)
    await make_due()
    answers = await asyncio.gather(
        dispatch(bulk_window=10), client("DELETE", f"/api/group-schedules/{batch['id']}/"), dispatch(bulk_window=10)
    )
    assert answers[1].status_code == 204
    handed = len(await outbox_events(database))
    await dispatch()
    assert len(await outbox_events(database)) == handed
    detail = await client.ok("GET", f"/api/group-schedules/{batch['id']}/")
    assert (detail["status"], detail["counts"]["processing"]) == ("cancelled", handed)
    assert detail["counts"]["cancelled"] == 50 - handed


async def test_a_change_against_dispatch_is_seen_or_refused(
    client, make_schedule, make_due, dispatch, database, outbox_events
):
    made = [await make_schedule(text="old") for _ in range(10)]
    await make_due()

    async def change(schedule):
        return schedule["id"], (await client("PATCH", f"/api/schedules/{schedule['id']}/", {"text": "new"})).status_code

    results = await asyncio.gather(*(change(s) for s in made), dispatch())
    await dispatch()
    texts = {event.schedule_id: event.text for event in await outbox_events(database)}
    for schedule_id, status in results[:-1]:
        assert texts[schedule_id] == ("new" if status == 200 else "old")
