"""A change or a cancellation against a concurrent dispatch: exactly one of them happens."""

import asyncio
from typing import Any

from common.events import ScheduleDue
from scheduling.dispatch import repository as claims
from scheduling.dispatch.rules import decide
from services.scheduling.tests.stage import Stage


async def test_no_schedule_is_both_cancelled_and_dispatched(stage: Stage) -> None:
    made = [await stage.make_schedule() for _ in range(20)]
    await stage.make_due()

    async def cancel(schedule: Any) -> int | None:
        answer = await stage.client("DELETE", f"/api/schedules/{schedule['id']}/")
        return int(schedule["id"]) if answer.status_code == 204 else None

    cancellations = [cancel(schedule) for schedule in made]
    results = await asyncio.gather(*cancellations[:10], stage.dispatch(), *cancellations[10:])
    cancelled = {schedule_id for schedule_id in results if schedule_id is not None}
    await stage.dispatch()
    dispatched = {event.schedule_id for event in await stage.dispatches()}
    assert cancelled | dispatched == {schedule["id"] for schedule in made}
    assert not cancelled & dispatched


async def test_a_cancellation_waits_for_a_dispatch_in_progress(stage: Stage) -> None:
    made = await stage.make_schedule()
    await stage.make_due()
    async with stage.database.all_tenants() as session:
        assert await claims.claim_singles_all_tenants(session, 10) == [made["id"]]
        cancel = asyncio.create_task(stage.client("DELETE", f"/api/schedules/{made['id']}/"))
        [due] = await claims.read_pending_all_tenants(session, [made["id"]])
        event = decide(due, 10)
        assert isinstance(event, ScheduleDue)
        await claims.mark_dispatched_all_tenants(session, [event], 20)
        assert not cancel.done()
    assert (await cancel).status_code == 400


async def test_a_batch_cancelled_during_its_dispatch_shows_what_was_dispatched(stage: Stage) -> None:
    batch = await stage.make_batch(50)
    await stage.make_due()
    _, answer, _ = await asyncio.gather(
        stage.dispatch(bulk_window=10),
        stage.client("DELETE", f"/api/group-schedules/{batch['id']}/"),
        stage.dispatch(bulk_window=10),
    )
    assert answer.status_code == 204
    dispatched = len(await stage.dispatches())
    await stage.dispatch()
    assert len(await stage.dispatches()) == dispatched
    detail = await stage.show_batch(batch["id"])
    assert (detail["status"], detail["counts"]["processing"]) == ("cancelled", dispatched)
    assert detail["counts"]["cancelled"] == 50 - dispatched


async def test_a_change_during_a_dispatch_is_sent_or_refused(stage: Stage) -> None:
    made = [await stage.make_schedule(text="old") for _ in range(10)]
    await stage.make_due()

    async def change(schedule: Any) -> tuple[int, int]:
        answer = await stage.client("PATCH", f"/api/schedules/{schedule['id']}/", {"text": "new"})
        return schedule["id"], answer.status_code

    dispatch = asyncio.create_task(stage.dispatch())
    results = await asyncio.gather(*(change(schedule) for schedule in made))
    await dispatch
    await stage.dispatch()
    texts = {event.schedule_id: event.text for event in await stage.dispatches()}
    for schedule_id, status in results:
        assert texts[schedule_id] == ("new" if status == 200 else "old")
