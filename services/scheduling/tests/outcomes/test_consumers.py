"""Delivery's word in any order, twice, and for what nobody knows."""

import itertools
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from common.events import MessageFailed, MessageSent
from scheduling.outcomes.consumers import on_message_failed, on_message_sent

TIME = datetime(2026, 12, 1, tzinfo=UTC)


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
def sent(organisation):
    def make(schedule_id, version, run=1, **changes):
        values = {"organisation_id": organisation, "message_id": 1, "schedule_id": schedule_id, "run": run}
        values |= {"version": version, "attempts": version, "provider": "log", "sent_time": TIME}
        return MessageSent(**{**values, **changes})

    return make


@pytest.fixture
def failed(organisation):
    def make(schedule_id, version, run=1, **changes):
        values = {"organisation_id": organisation, "message_id": 1, "schedule_id": schedule_id, "run": run}
        values |= {"version": version, "attempts": version, "category": "outcome_unknown", "error": "Unknown."}
        return MessageFailed(**{**values, **changes})

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
    await on_message_failed(database, records(failed(schedule, 4, category="blocked")))
    await client.ok("POST", f"/api/schedules/{schedule}/retry/")
    await on_message_sent(database, records(sent(schedule, 9)))
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "pending"
    await dispatch()
    await on_message_sent(database, records(sent(schedule, 9)))
    await on_message_sent(database, records(sent(schedule, 9, run=3)))
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "processing"
    await on_message_sent(database, records(sent(schedule, 1, run=2)))
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "sent"


async def test_what_is_cancelled_stays_so(client, database, make_schedule, sent):
    made = await make_schedule()
    await client("DELETE", f"/api/schedules/{made['id']}/")
    await on_message_sent(database, records(sent(made["id"], 1, run=0)))
    assert (await client.ok("GET", f"/api/schedules/{made['id']}/"))["status"] == "cancelled"


async def test_a_malformed_record_in_the_middle_is_put_aside(client, database, schedule, sent, run_sql):
    good, bad = records(sent(schedule, 1)), records(sent(1, 1))
    bad[0].value, bad[0].offset = b'{"event_id": 5}', 1
    for _ in range(2):
        await on_message_sent(database, [*bad, *good])
    assert (await client.ok("GET", f"/api/schedules/{schedule}/"))["status"] == "sent"
    assert len(await run_sql("SELECT 1 FROM dead_letters")) == 1
