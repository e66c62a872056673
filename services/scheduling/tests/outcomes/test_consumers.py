"""Delivery's events in any order, twice, and about schedules that do not exist."""

import asyncio
import itertools
from dataclasses import dataclass, replace

import pytest

from scheduling.outcomes.consumers import on_outcomes
from services.scheduling.tests.stage import FIVE_PAST, TIME, Stage, records

SENT, DELIVERED = "2026-12-01T00:00:00.000Z", "2026-12-01T00:05:00.000Z"
ORDERS = list(itertools.permutations(range(3)))


@pytest.fixture
async def schedule_id(stage: Stage) -> int:
    """Send a message and return its schedule's id."""
    return await stage.send()


@dataclass
class RunningBatch:
    """A batch of three messages that are all in processing."""

    id: int
    messages: list[int]


@pytest.fixture
async def batch(stage: Stage) -> RunningBatch:
    """Create a batch and dispatch its messages."""
    made = await stage.make_batch(3)
    await stage.make_due()
    await stage.dispatch()
    return RunningBatch(made["id"], sorted(event.schedule_id for event in await stage.dispatches()))


async def test_an_outcome_is_shown(stage: Stage, schedule_id: int) -> None:
    await stage.consume(stage.sent(schedule_id))
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["attempts"], shown["provider"]) == ("sent", 1, "log")
    assert (shown["sent_time"], shown["updated_by"]) == (SENT, None)


@pytest.mark.parametrize("order", ORDERS)
async def test_the_highest_version_wins_in_any_order_and_twice(
    stage: Stage, schedule_id: int, order: tuple[int, ...]
) -> None:
    events = [stage.failed(schedule_id, 1), stage.sent(schedule_id, 2), stage.failed(schedule_id, 3)]
    await stage.consume(*(events[number] for number in [*order, *order]))
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["attempts"], shown["failure_category"]) == ("failed", 3, "outcome_unknown")
    assert shown["error"] == "Unknown."


@pytest.mark.parametrize("order", ORDERS)
async def test_a_receipt_may_arrive_before_the_event_that_it_confirms(
    stage: Stage, schedule_id: int, order: tuple[int, ...]
) -> None:
    events = [
        stage.delayed(schedule_id, 1),
        stage.sent(schedule_id, 2),
        stage.delivered(schedule_id, 3, sent_time=TIME),
    ]
    await stage.consume(*(events[number] for number in [*order, *order]))
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["attempts"]) == ("delivered", 3)
    assert (shown["sent_time"], shown["delivered_time"], shown["next_attempt_at"]) == (SENT, DELIVERED, None)
    assert (shown["error"], shown["failure_category"]) == (None, None)
    assert (await stage.client.ok("GET", f"/api/schedules/{schedule_id}/?status_format=v1"))["status"] == "SENT"
    assert (await stage.row(schedule_id)).sweep_at is None


async def test_a_delayed_message_shows_its_next_attempt_and_is_still_swept(stage: Stage, schedule_id: int) -> None:
    before = await stage.row(schedule_id)
    await stage.consume(stage.delayed(schedule_id, 2))
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["attempts"], shown["next_attempt_at"]) == ("processing", 2, DELIVERED)
    assert (shown["error"], shown["failure_category"]) == (None, None)
    assert (await stage.row(schedule_id)).sweep_at == before.sweep_at is not None
    await stage.consume(stage.delayed(schedule_id, 1))
    assert (await stage.row(schedule_id)).attempts == 2


async def test_a_message_with_an_outcome_does_not_become_open_again(stage: Stage, schedule_id: int) -> None:
    await stage.consume(stage.failed(schedule_id, 3, failure_category="blocked"), stage.delayed(schedule_id, 4))
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["attempts"], shown["next_attempt_at"]) == ("failed", 3, None)


async def test_a_delay_applies_to_its_own_dispatch_only(stage: Stage, schedule_id: int) -> None:
    await stage.consume(stage.failed(schedule_id, 3, failure_category="blocked"))
    await stage.client.ok("POST", f"/api/schedules/{schedule_id}/retry/")
    await stage.consume(stage.delayed(schedule_id, 9))
    assert (await stage.row(schedule_id)).next_attempt_at is None
    await stage.dispatch()
    await stage.consume(stage.delayed(schedule_id, 1, dispatch_number=2))
    assert (await stage.row(schedule_id)).next_attempt_at == FIVE_PAST


async def test_a_receipt_may_report_that_a_sent_message_failed(stage: Stage, schedule_id: int) -> None:
    await stage.consume(
        stage.sent(schedule_id, 1), stage.failed(schedule_id, 2, failure_category="expired", error="Too late.")
    )
    shown = await stage.show(schedule_id)
    assert (shown["status"], shown["failure_category"], shown["error"]) == ("failed", "expired", "Too late.")
    assert (shown["sent_time"], shown["delivered_time"]) == (SENT, None)


async def test_receipts_are_counted_and_do_not_change_a_finished_batch(stage: Stage, batch: RunningBatch) -> None:
    first, *others = batch.messages
    await on_outcomes(stage.database, records(*(stage.sent(id_) for id_ in others)))
    await stage.consume(stage.delivered(first, 2))
    await stage.finish_batches()
    before = await stage.show_batch(batch.id)
    assert (before["status"], before["counts"]["sent"], before["counts"]["delivered"]) == ("sent", 2, 1)
    await stage.consume(*(stage.delivered(id_, 2) for id_ in batch.messages))
    after = await stage.show_batch(batch.id)
    assert (after["status"], after["updated_at"]) == ("sent", before["updated_at"])
    assert (after["counts"]["sent"], after["counts"]["delivered"]) == (0, 3)
    assert (await stage.show_batch(batch.id, "?status_format=v1"))["counts"]["SENT"] == 3


async def test_a_batch_follows_the_late_receipts_of_its_messages(stage: Stage, batch: RunningBatch) -> None:
    await on_outcomes(stage.database, records(*(stage.sent(id_) for id_ in batch.messages)))
    await stage.finish_batches()
    first, second, third = (stage.failed(id_, 2, failure_category="expired") for id_ in batch.messages)
    await stage.consume(first)
    assert (await stage.show_batch(batch.id))["status"] == "sent"
    await asyncio.gather(stage.consume(second), stage.consume(third))
    shown = await stage.show_batch(batch.id)
    assert (shown["status"], shown["failure_category"], shown["counts"]["failed"]) == ("failed", "expired", 3)
    assert shown["error"]
    await stage.consume(stage.delivered(batch.messages[1], 3))
    shown = await stage.show_batch(batch.id)
    assert (shown["status"], shown["error"], shown["failure_category"]) == ("sent", None, None)


async def test_a_receipt_during_a_retry_does_not_finish_the_batch(stage: Stage, batch: RunningBatch) -> None:
    first, *others = batch.messages
    await stage.consume(stage.sent(first))
    failures = (stage.failed(id_, failure_category="blocked") for id_ in others)
    await on_outcomes(stage.database, records(*failures))
    await stage.finish_batches()
    assert (await stage.client.ok("POST", f"/api/group-schedules/{batch.id}/retry/"))["retried"] == 2
    await stage.consume(stage.failed(first, 2, failure_category="expired"))
    assert (await stage.show_batch(batch.id))["status"] == "processing"


async def test_events_about_unknown_schedules_and_other_organisations_change_nothing(stage: Stage) -> None:
    ids = [await stage.send() for _ in range(5)]
    known = [stage.sent(schedule_id) for schedule_id in [*ids[:4], 2**60]]
    batch = records(*known, stage.sent(ids[4], organisation_id="org_other"))
    for _ in range(2):
        await on_outcomes(stage.database, batch)
    rows = await stage.rows("SELECT status FROM schedules ORDER BY id")
    assert [row.status for row in rows] == ["sent"] * 4 + ["processing"]


async def test_an_event_of_another_dispatch_changes_nothing(stage: Stage, schedule_id: int) -> None:
    async def status() -> str:
        return str((await stage.show(schedule_id))["status"])

    await stage.consume(stage.failed(schedule_id, 4, failure_category="blocked"))
    await stage.client.ok("POST", f"/api/schedules/{schedule_id}/retry/")
    await stage.consume(stage.sent(schedule_id, 9))
    assert await status() == "pending"
    await stage.dispatch()
    await stage.consume(stage.sent(schedule_id, 9), stage.sent(schedule_id, 9, dispatch_number=3))
    assert await status() == "processing"
    await stage.consume(stage.sent(schedule_id, 1, dispatch_number=2))
    assert await status() == "sent"


async def test_a_cancelled_schedule_stays_cancelled(stage: Stage) -> None:
    made = await stage.make_schedule()
    await stage.client("DELETE", f"/api/schedules/{made['id']}/")
    await stage.consume(stage.sent(made["id"], dispatch_number=0))
    assert (await stage.show(made["id"]))["status"] == "cancelled"


async def test_an_unreadable_record_becomes_a_dead_letter_and_the_others_apply(stage: Stage, schedule_id: int) -> None:
    good, bad = records(stage.sent(schedule_id)), records(stage.sent(1))
    unreadable = replace(bad[0], value=b'{"event_id": 5}', offset=1)
    for _ in range(2):
        await on_outcomes(stage.database, [unreadable, *good])
    assert (await stage.show(schedule_id))["status"] == "sent"
    assert len(await stage.rows("SELECT 1 FROM dead_letters")) == 1
