"""The sweep: delivery is asked about schedules that stay in processing for too long."""

from typing import Any

import pytest

from common.errors import Unavailable
from services.scheduling.tests.stage import TIME, Stage


@pytest.fixture
async def schedule_id(stage: Stage) -> int:
    """Send a message and return its schedule's id."""
    return await stage.send()


def report(state: str, event: Any) -> dict[str, Any]:
    return {"state": state, "event": event.model_dump(mode="json")}


async def test_a_dispatch_that_delivery_does_not_know_is_published_again_five_times(
    stage: Stage, schedule_id: int
) -> None:
    [first] = await stage.dispatches()
    assert not await stage.sweep(overdue=False)
    for times in range(1, 8):
        await stage.clear_outbox()
        await stage.sweep()
        events = await stage.dispatches()
        assert len(events) == (1 if times <= 5 else 0)
        for event in events:
            assert event.model_copy(update={"occurred_at": first.occurred_at}) == first
        [left] = await stage.rows("SELECT extract(epoch FROM sweep_at - now()) AS s FROM schedules")
        assert (await stage.row(schedule_id)).sweep_count == times
        assert abs(float(left.s) - 20 * 2**times) < 10


async def test_while_delivery_has_events_to_read_nothing_is_published_again(stage: Stage, schedule_id: int) -> None:
    stage.delivery.intake_lag = 3
    await stage.clear_outbox()
    await stage.sweep()
    assert not await stage.dispatches()
    assert (await stage.row(schedule_id)).sweep_count == 0


async def test_an_open_message_is_asked_about_again_later(stage: Stage, schedule_id: int) -> None:
    stage.delivery.states[schedule_id, 1] = {"state": "open"}
    await stage.sweep()
    assert (await stage.show(schedule_id))["status"] == "processing"
    assert not await stage.sweep(overdue=False)


async def test_a_failure_that_delivery_reports_is_applied(stage: Stage, schedule_id: int) -> None:
    event = stage.failed(schedule_id, 2, attempts=3, failure_category="blocked", error="Blocked.")
    stage.delivery.states[schedule_id, 1] = report("failed", event)
    await stage.sweep()
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["attempts"], shown["error"]) == ("failed", 3, "Blocked.")


async def test_a_delivery_that_delivery_reports_is_applied(stage: Stage, schedule_id: int) -> None:
    event = stage.delivered(schedule_id, 3, sent_time=TIME, delivered_time=TIME)
    stage.delivery.states[schedule_id, 1] = report("delivered", event)
    await stage.sweep()
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["delivered_time"]) == ("delivered", "2026-12-01T00:00:00.000Z")


async def test_while_delivery_is_unavailable_the_sweep_fails_and_counts_nothing(stage: Stage, schedule_id: int) -> None:
    stage.delivery.unavailable = True
    with pytest.raises(Unavailable, match="delivery"):
        await stage.sweep()
    assert (await stage.row(schedule_id)).sweep_count == 0
