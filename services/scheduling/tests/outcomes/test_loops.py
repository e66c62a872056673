"""Who waits too long asks."""

from datetime import UTC, datetime

import pytest

from common.events import MessageDelivered
from scheduling.outcomes.loops import sweep

TIME = datetime(2026, 12, 1, tzinfo=UTC)
OVERDUE = "UPDATE schedules SET sweep_at = now() WHERE sweep_at IS NOT NULL"


@pytest.fixture
async def schedule(client):
    told = await client.ok("POST", "/api/sms/send/", {"message": "Hi", "recipient": "0491000999"})
    return told["schedule_id"]


async def test_what_delivery_never_got_is_published_again_and_after_five_times_is_stuck(
    schedule, client, services, settings, database, outbox_events, run_sql, row_of
):
    [first] = await outbox_events(database)
    assert not await sweep(database, services, settings)
    for times in range(1, 8):
        await run_sql("DELETE FROM outbox")
        await run_sql(OVERDUE)
        await sweep(database, services, settings)
        events = await outbox_events(database)
        assert len(events) == (1 if times <= 5 else 0)
        for event in events:
            assert event.model_copy(update={"occurred_at": first.occurred_at}) == first
        row = await row_of(schedule)
        [left] = await run_sql("SELECT extract(epoch FROM sweep_at - now()) AS s FROM schedules")
        assert row.sweep_count == times
        assert abs(float(left.s) - 20 * 2**times) < 10


async def test_what_delivery_knows_is_applied(schedule, client, delivery, services, settings, database, run_sql):
    await run_sql(OVERDUE)
    delivery.states[schedule, 1] = {"state": "open"}
    await sweep(database, services, settings)
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "processing"
    event = {
        "event_id": "0e9f2f0a-3d5c-4c1b-9d3e-3a3a3a3a3a3a",
        "occurred_at": "2026-12-01T00:00:00Z",
        "organisation_id": (await run_sql("SELECT organisation_id AS o FROM schedules"))[0].o,
        "message_id": 1,
        "schedule_id": schedule,
        "dispatch_number": 1,
        "version": 2,
        "attempts": 3,
        "failure_category": "blocked",
        "error": "Blocked.",
    }
    delivery.states[schedule, 1] = {"state": "failed", "event": event}
    assert not await sweep(database, services, settings)
    await run_sql(OVERDUE)
    await sweep(database, services, settings)
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["attempts"], shown["error"]) == ("failed", 3, "Blocked.")


async def test_a_message_that_arrived_unheard_is_delivered(
    schedule, client, delivery, services, settings, database, run_sql, organisation
):
    await run_sql(OVERDUE)
    event = MessageDelivered(
        organisation_id=organisation,
        message_id=1,
        schedule_id=schedule,
        dispatch_number=1,
        version=3,
        attempts=1,
        provider="log",
        sent_time=TIME,
        delivered_time=TIME,
    )
    delivery.states[schedule, 1] = {"state": "delivered", "event": event.model_dump(mode="json")}
    await sweep(database, services, settings)
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["delivered_time"]) == ("delivered", "2026-12-01T00:00:00.000Z")


async def test_while_delivery_is_away_the_loop_fails_and_nothing_is_lost(
    schedule, delivery, services, settings, database, run_sql, row_of
):
    await run_sql(OVERDUE)
    delivery.unavailable = True
    with pytest.raises(Exception, match="delivery"):
        await sweep(database, services, settings)
    assert (await row_of(schedule)).sweep_count == 0
