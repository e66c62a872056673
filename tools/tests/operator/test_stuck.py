"""What is stuck is found, counted by organisation, and told without phones or texts."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Operator = Callable[..., Awaitable[tuple[int, str]]]
Sql = Callable[..., Awaitable[list[Any]]]
PHONE, TEXT = "+61491570006", "Hi Ana"
HOUR = "now() - interval '1 hour'"


async def add_schedule(sql: Sql, organisation: str, status: str, **changes: str) -> int:
    values = {
        "organisation_id": f"'{organisation}'",
        "kind": "'single'",
        "status": f"'{status}'",
        "phone": f"'{PHONE}'",
        "text": f"'{TEXT}'",
        "format": "'sms'",
        "scheduled_time": HOUR,
        "updated_at": HOUR,
        "created_at": HOUR,
        **changes,
    }
    statement = f"INSERT INTO schedules ({', '.join(values)}) SELECT {', '.join(values.values())} RETURNING id"
    return int((await sql("scheduling", statement))[0].id)


async def add_message(sql: Sql, organisation: str, status: str, **changes: str) -> int:
    values = {
        "organisation_id": f"'{organisation}'",
        "schedule_id": "7",
        "run": "(SELECT count(*) + 1 FROM messages)",
        "phone": f"'{PHONE}'",
        "text": f"'{TEXT}'",
        "format": "'sms'",
        "units": "1",
        "scheduled_time": HOUR,
        "period": "date '2026-11-01'",
        "deadline": "now() + interval '1 day'",
        "lane": "'single'",
        "status": f"'{status}'",
        "created_at": HOUR,
        "request_id": "'r1'",
        **changes,
    }
    statement = f"INSERT INTO messages ({', '.join(values)}) SELECT {', '.join(values.values())} RETURNING id"
    return int((await sql("delivery", statement))[0].id)


async def add_outbox(sql: Sql, service: str, topic: str) -> None:
    await sql(
        service,
        "INSERT INTO outbox (event_id, topic, key, body, request_id, created_at)"
        f" VALUES (gen_random_uuid(), :topic, 'k', 'b', '', {HOUR})",
        topic=topic,
    )


async def test_nothing_is_stuck_in_a_quiet_system(operator: Operator, sql: Sql, organisation: str) -> None:
    await add_schedule(sql, organisation, "sent")
    await add_schedule(sql, organisation, "processing", updated_at="now()")
    await add_schedule(sql, organisation, "pending", scheduled_time="now() + interval '1 hour'")
    await add_message(sql, organisation, "sent")
    assert await operator("stuck") == (0, "nothing is stuck\n")


async def test_everything_that_is_stuck_is_told_once_with_its_reason(
    operator: Operator, sql: Sql, organisation: str
) -> None:
    await add_schedule(sql, organisation, "processing", swept="3")
    await add_schedule(sql, organisation, "processing", swept="3")
    await add_schedule(sql, organisation, "pending")
    parent = {"kind": "'parent'", "group_id": "1", "wake_at": "now()", "child_count": "5", "phone": "NULL"}
    batch = await add_schedule(sql, organisation, "pending", scheduled_time="now() + interval '1 day'", **parent)
    await add_message(sql, organisation, "queued")
    waiting = {"provider": "'twilio'", "category": "'account_error'", "attempts": "2"}
    await add_message(sql, organisation, "retry_wait", next_attempt_at="now()", **waiting)
    unknown = await add_message(sql, organisation, "unknown", provider="'twilio'")
    await sql(
        "delivery",
        "INSERT INTO calls (key, provider, message_ids, body, requests, state, requested_at, due_at, ends_at)"
        f" VALUES (gen_random_uuid(), 'twilio', ARRAY[{unknown}], 'x', 4, 'unknown', {HOUR}, now(), now())",
    )
    await sql("delivery", f"INSERT INTO limits VALUES ('{organisation}', date '2026-11-01', 'sms', 9)")
    await sql(
        "delivery",
        f"INSERT INTO holds VALUES (gen_random_uuid(), '{organisation}', date '2026-11-01', 'sms', 9, {HOUR})",
    )
    await sql(
        "delivery",
        "INSERT INTO notices (provider, fingerprint, kind, body, looks, received_at, request_id)"
        f" VALUES ('aws', 'x', 'receipt', '{{}}', 6, {HOUR}, '')",
    )
    await add_outbox(sql, "delivery", "delivery.message-sent.v1")
    await add_outbox(sql, "contacts", "contacts.contact-changed.v1")
    await sql(
        "scheduling",
        "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error)"
        " VALUES ('delivery.message-sent.v1', 0, 1, 'x', 'x', 'x')",
    )
    code, told = await operator("stuck")
    assert code == 1
    for words in (
        "scheduling: 2 schedules in processing",
        "asked 3 times",
        "scheduling: 1 schedules that are overdue",
        "scheduling: 1 batches that are not expanded",
        f"batch {batch}",
        "delivery: 1 messages queued",
        "delivery: 1 messages that wait for another attempt",
        "twilio account_error, attempt 2",
        "delivery: 1 messages of unknown outcome",
        "delivery: 1 calls of unknown outcome",
        "twilio unknown, 1 messages, at most 4 requests",
        "delivery: 1 holds that are not looked after",
        "sms, 9 units",
        "delivery: 1 notices of providers that match no message",
        "aws receipt, looked at 6 times",
        "delivery: 1 events that are not published",
        "contacts: 1 events that are not published",
        "scheduling: 1 dead letters",
    ):
        assert told.count(words) == 1, words
    assert organisation in told
    assert PHONE not in told
    assert TEXT not in told


@pytest.mark.parametrize(("minutes", "code"), [("30", 1), ("90", 0)])
async def test_how_long_something_may_take_can_be_said(
    operator: Operator, sql: Sql, organisation: str, minutes: str, code: int
) -> None:
    await add_message(sql, organisation, "queued")
    assert (await operator("stuck", "--minutes", minutes))[0] == code


async def test_a_database_that_is_away_is_said_so(operator: Operator) -> None:
    url = "postgresql://delivery:secret-word@127.0.0.1:9/cooee"
    code, told = await operator("message", "1", DELIVERY_DATABASE_URL=url)
    assert (code, "delivery's database" in told, "secret-word" in told) == (2, True, False)
