"""Delivery's word in any order, twice, and for what nobody knows."""

import asyncio
import itertools
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from common.events import MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from scheduling.batches.loops import finish_batches
from scheduling.outcomes.consumers import (
    on_message_delayed,
    on_message_delivered,
    on_message_failed,
    on_message_sent,
)

TIME = datetime(2026, 12, 1, tzinfo=UTC)
LATER = datetime(2026, 12, 1, 0, 5, tzinfo=UTC)
SENT, DELIVERED = "2026-12-01T00:00:00.000Z", "2026-12-01T00:05:00.000Z"


def records(*events):
    return [
        SimpleNamespace(topic=e.topic, partition=0, offset=n, key=b"k", value=e.model_dump_json().encode())
        for n, e in enumerate(events)
    ]


@pytest.fixture
async def schedule(client):
    told = await client.ok("POST", "/api/sms/send/", {"message": "x", "recipient": "0491000999"})
    return told["schedule_id"]


@pytest.fixture
def word(organisation):
    def make(event_class, schedule_id, version, run=1, **values):
        about = {"organisation_id": organisation, "message_id": 1, "schedule_id": schedule_id, "dispatch_number": run}
        return event_class(**{**about, "version": version, "attempts": version, **values})

    return make


@pytest.fixture
def sent(word):
    def make(schedule_id, version, run=1, **changes):
        return word(MessageSent, schedule_id, version, run, **{"provider": "log", "sent_time": TIME, **changes})

    return make


@pytest.fixture
def failed(word):
    def make(schedule_id, version, run=1, **changes):
        values = {"failure_category": "outcome_unknown", "error": "Unknown.", **changes}
        return word(MessageFailed, schedule_id, version, run, **values)

    return make


@pytest.fixture
def delivered(word):
    def make(schedule_id, version, run=1, **changes):
        values = {"provider": "log", "delivered_time": LATER, **changes}
        return word(MessageDelivered, schedule_id, version, run, **values)

    return make


@pytest.fixture
def delayed(word):
    def make(schedule_id, version, run=1, **changes):
        values = {"next_attempt_at": LATER, "failure_category": "rate_limited", "error": "Busy.", **changes}
        return word(MessageDelayed, schedule_id, version, run, **values)

    return make


async def test_an_outcome_is_shown(client, database, schedule, sent):
    await on_message_sent(database, records(sent(schedule, 1)))
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["attempts"], shown["provider"]) == ("sent", 1, "log")
    assert shown["sent_time"] == "2026-12-01T00:00:00.000Z"
    assert shown["updated_by"] is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_highest_version_wins_in_any_order_and_twice(client, database, schedule, sent, failed, order):
    told = [
        (on_message_failed, failed(schedule, 1)),
        (on_message_sent, sent(schedule, 2)),
        (on_message_failed, failed(schedule, 3)),
    ]
    for number in [*order, *order]:
        consumer, event = told[number]
        await consumer(database, records(event, event))
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["attempts"], shown["failure_category"]) == ("failed", 3, "outcome_unknown")
    assert shown["error"] == "Unknown."


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_receipt_may_come_before_what_it_confirms(
    client, database, schedule, delayed, sent, delivered, run_sql, order
):
    told = [
        (on_message_delayed, delayed(schedule, 1)),
        (on_message_sent, sent(schedule, 2)),
        (on_message_delivered, delivered(schedule, 3, sent_time=TIME)),
    ]
    for number in [*order, *order]:
        consumer, event = told[number]
        await consumer(database, records(event, event))
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["attempts"]) == ("delivered", 3)
    assert (shown["sent_time"], shown["delivered_time"], shown["next_attempt_at"]) == (SENT, DELIVERED, None)
    assert (shown["error"], shown["failure_category"]) == (None, None)
    assert (await client.ok("GET", f"/api/schedules/{schedule}/?status_format=v1"))["status"] == "SENT"
    assert await run_sql("SELECT 1 FROM schedules WHERE sweep_at IS NOT NULL") == []


async def test_a_message_that_is_tried_again_says_when_and_is_still_asked_for(
    client, database, schedule, delayed, failed, dispatch, row_of
):
    before = await row_of(schedule)
    await on_message_delayed(database, records(delayed(schedule, 2)))
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["attempts"], shown["next_attempt_at"]) == ("processing", 2, DELIVERED)
    assert (shown["error"], shown["failure_category"]) == (None, None)
    assert (await row_of(schedule)).sweep_at == before.sweep_at is not None
    await on_message_delayed(database, records(delayed(schedule, 1)))
    assert (await row_of(schedule)).attempts == 2
    await on_message_failed(database, records(failed(schedule, 3, failure_category="blocked")))
    await on_message_delayed(database, records(delayed(schedule, 4)))  # what has an outcome is open no more
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["attempts"], shown["next_attempt_at"]) == ("failed", 3, None)
    await client.ok("POST", f"/api/schedules/{schedule}/retry/")
    await on_message_delayed(database, records(delayed(schedule, 9)))
    assert (await row_of(schedule)).next_attempt_at is None
    await dispatch()
    await on_message_delayed(database, records(delayed(schedule, 1, dispatch_number=2)))
    assert (await row_of(schedule)).next_attempt_at == LATER


async def test_a_receipt_says_that_what_was_sent_failed(client, database, schedule, sent, failed):
    await on_message_sent(database, records(sent(schedule, 1)))
    await on_message_failed(database, records(failed(schedule, 2, failure_category="expired", error="Too late.")))
    shown = await client.ok("GET", f"/api/schedules/{schedule}/")
    assert (shown["status"], shown["failure_category"], shown["error"]) == ("failed", "expired", "Too late.")
    assert (shown["sent_time"], shown["delivered_time"]) == (SENT, None)


@pytest.fixture
async def running(make_batch, make_due, dispatch, client, run_sql):
    """`batch, children`: a batch of three whose messages are all in processing."""
    batch = await make_batch(3)
    await make_due()
    await dispatch()
    rows = await run_sql("SELECT id FROM schedules WHERE batch_id = :id ORDER BY id", id=batch["id"])
    await run_sql("UPDATE schedules SET fanned_out_at = now() WHERE id = :id", id=batch["id"])
    return f"/api/group-schedules/{batch['id']}/", [row.id for row in rows]


async def test_receipts_are_counted_and_leave_the_end_of_a_batch_alone(
    client, database, running, sent, delivered, run_sql
):
    path, children = running
    await on_message_sent(database, records(*(sent(child, 1) for child in children[1:])))
    await on_message_delivered(database, records(delivered(children[0], 2)))
    await finish_batches(database)
    before = await client.ok("GET", path)
    assert (before["status"], before["counts"]["sent"], before["counts"]["delivered"]) == ("sent", 2, 1)
    await on_message_delivered(database, records(*(delivered(child, 2) for child in children)))
    after = await client.ok("GET", path)
    assert (after["status"], after["updated_at"]) == ("sent", before["updated_at"])
    assert (after["counts"]["sent"], after["counts"]["delivered"]) == (0, 3)
    assert (await client.ok("GET", path + "?status_format=v1"))["counts"]["SENT"] == 3


async def test_a_batch_whose_last_sent_message_failed_has_failed_and_is_sent_again_when_one_arrives(
    client, database, running, sent, delivered, failed
):
    path, children = running
    await on_message_sent(database, records(*(sent(child, 1) for child in children)))
    await finish_batches(database)

    async def fail(child):
        await on_message_failed(database, records(failed(child, 2, failure_category="expired")))

    await fail(children[0])
    assert (await client.ok("GET", path))["status"] == "sent"
    await asyncio.gather(*(fail(child) for child in children[1:]))
    shown = await client.ok("GET", path)
    assert (shown["status"], shown["failure_category"], shown["counts"]["failed"]) == ("failed", "expired", 3)
    assert shown["error"]
    await on_message_delivered(database, records(delivered(children[1], 3)))
    shown = await client.ok("GET", path)
    assert (shown["status"], shown["error"], shown["failure_category"]) == ("sent", None, None)


async def test_a_receipt_after_a_retry_of_others_does_not_end_the_batch(client, database, running, sent, failed):
    path, children = running
    await on_message_sent(database, records(sent(children[0], 1)))
    await on_message_failed(
        database, records(*(failed(child, 1, failure_category="blocked") for child in children[1:]))
    )
    await finish_batches(database)
    assert (await client.ok("POST", path + "retry/"))["retried"] == 2
    await on_message_failed(database, records(failed(children[0], 2, failure_category="expired")))
    assert (await client.ok("GET", path))["status"] == "processing"


async def test_a_whole_batch_twice_with_unknown_ids_and_a_stranger(client, database, sent, run_sql):
    ids = [
        (await client.ok("POST", "/api/sms/send/", {"message": "x", "recipient": "0491000999"}))["schedule_id"]
        for _ in range(5)
    ]
    batch = records(
        *(sent(schedule_id, 1) for schedule_id in [*ids[:4], 2**60]), sent(ids[4], 1, organisation_id="org_other")
    )
    for _ in range(2):
        await on_message_sent(database, batch)
    rows = await run_sql("SELECT status FROM schedules ORDER BY id")
    assert [row.status for row in rows] == ["sent"] * 4 + ["processing"]


async def test_an_older_run_changes_nothing(client, database, schedule, sent, failed, dispatch, run_sql):
    await on_message_failed(database, records(failed(schedule, 4, failure_category="blocked")))
    await client.ok("POST", f"/api/schedules/{schedule}/retry/")
    await on_message_sent(database, records(sent(schedule, 9)))
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "pending"
    await dispatch()
    await on_message_sent(database, records(sent(schedule, 9)))
    await on_message_sent(database, records(sent(schedule, 9, dispatch_number=3)))
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "processing"
    await on_message_sent(database, records(sent(schedule, 1, dispatch_number=2)))
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "sent"


async def test_what_is_cancelled_stays_so(client, database, make_schedule, sent):
    made = await make_schedule()
    await client("DELETE", f"/api/schedules/{made['id']}/")
    await on_message_sent(database, records(sent(made["id"], 1, dispatch_number=0)))
    assert (await client.ok("GET", f"/api/schedules/{made['id']}/"))["status"] == "cancelled"


async def test_a_malformed_record_in_the_middle_is_put_aside(client, database, schedule, sent, run_sql):
    good, bad = records(sent(schedule, 1)), records(sent(1, 1))
    bad[0].value, bad[0].offset = b'{"event_id": 5}', 1
    for _ in range(2):
        await on_message_sent(database, [*bad, *good])
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "sent"
    assert len(await run_sql("SELECT 1 FROM dead_letters")) == 1
