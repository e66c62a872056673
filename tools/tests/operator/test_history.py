"""The whole history of one message, over the services."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from .test_stuck import PHONE, TEXT, add_message, add_schedule

Operator = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def journey(sql: Any, organisation: str) -> tuple[int, int]:
    """A schedule that failed once, was retried, delivered and answered: its id, and that of its second message."""
    sent = {"run": "2", "contact_id": "5", "provider": "'twilio'", "attempts": "1", "sent_time": "now()"}
    schedule = await add_schedule(sql, organisation, "delivered", delivered_time="now()", **sent)
    of = {"schedule_id": str(schedule), "contact_id": "5"}
    failed = {"category": "'unroutable'", "error": "'No route.'", "provider": "'aws'"}
    await add_message(sql, organisation, "failed", run="1", **of, **failed)
    key = "'7f0e6a1f-5f0e-4d55-9d0d-0b6f8a5a1c11'"
    sent = {"run": "2", "provider": "'twilio'", "provider_message_id": "'SM123'", "call_key": key, "attempts": "1"}
    period = {"period": "date '2026-11-01'", "sent_time": "now()", "delivered_time": "now()", "billed_parts": "1"}
    message = await add_message(sql, organisation, "delivered", **of, **sent, **period)
    await sql("delivery", f"INSERT INTO limits VALUES ('{organisation}', date '2026-11-01', 'sms', 41)")
    await sql(
        "delivery", f"INSERT INTO configs (organisation_id, name, value) VALUES ('{organisation}', 'sms_limit', '100')"
    )
    await sql(
        "delivery",
        "INSERT INTO notices (provider, fingerprint, kind, body, message_id, due_at, request_id)"
        f" VALUES ('twilio', 'x', 'receipt', '{{}}', {message}, NULL, '')",
    )
    await sql(
        "delivery",
        "INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, schedule_id,"
        f" keyword) VALUES ('{organisation}', '{PHONE}', 'x', 'Stop it', now(), 'twilio', {schedule}, 'stop')",
    )
    await sql(
        "delivery",
        f"INSERT INTO stops VALUES ('{organisation}', '{PHONE}', true, now(), 'reply', NULL, 1)",
    )
    await sql(
        "delivery",
        "INSERT INTO outbox (event_id, topic, key, body, request_id)"
        f" VALUES (gen_random_uuid(), 'delivery.message-delivered.v1', '{schedule}', 'x', '')",
    )
    return schedule, message


async def test_a_message_is_followed_through_all_services_by_either_id(
    operator: Operator, journey: tuple[int, int]
) -> None:
    schedule, message = journey
    code, told = await operator("message", "--schedule", str(schedule))
    assert code == 0
    for words in (
        f"scheduling: schedule {schedule}, single, delivered",
        "by twilio, attempts 1",
        "delivery: event delivery.message-delivered.v1 waits in the outbox",
        f"failed, run 1 of schedule {schedule}",
        "unroutable: No route.",
        f"delivery: message {message}, delivered, run 2 of schedule {schedule}",
        "twilio SM123",
        "7f0e6a1f-5f0e-4d55-9d0d-0b6f8a5a1c11 settled",
        "billed 1 parts",
        "kept, 41 taken of 100 in 2026-11",
        "delivery: receipt of twilio at",
        "delivery: answer ",
        "(stop)",
        "today: the recipient is stopped at delivery",
    ):
        assert words in told, words
    assert await operator("message", str(message)) == (0, told)


async def test_phones_and_texts_are_shown_only_when_asked(operator: Operator, journey: tuple[int, int]) -> None:
    _, told = await operator("message", str(journey[1]))
    assert PHONE not in told
    assert TEXT not in told
    assert "Stop it" not in told
    _, told = await operator("message", str(journey[1]), "--reveal")
    assert PHONE in told
    assert TEXT in told
    assert "Stop it" in told


async def test_what_delivery_has_not_heard_of_is_said_so(operator: Operator, sql: Any, organisation: str) -> None:
    schedule = await add_schedule(sql, organisation, "processing", run="1", swept="2", sweep_at="now()")
    code, told = await operator("message", "--schedule", str(schedule))
    assert code == 0
    assert "delivery asked 2 times" in told
    assert "delivery: knows nothing of it yet" in told
    assert (await operator("message", "999"))[0] == 2


async def test_the_provider_is_asked_what_it_says_today(operator: Operator, sql: Any, organisation: str) -> None:
    async def look_up(request: web.Request) -> web.Response:
        asked = request.query["message_id"]
        found = [{"message_id": asked, "custom_ref": "1", "status": "delivered"}] if asked == "mm-1" else []
        return web.json_response({"results": found})

    app = web.Application()
    app.router.add_get("/v1/messages", look_up)
    async with TestServer(app) as server:
        of: dict[str, str] = {"provider": "'mobile_message'", "attempts": "1", "sent_time": "now()"}
        known = await add_message(sql, organisation, "sent", schedule_id="1", provider_message_id="'mm-1'", **of)
        unknown = await add_message(sql, organisation, "sent", schedule_id="2", provider_message_id="'mm-2'", **of)
        stranger = await add_message(
            sql, organisation, "sent", **of | {"provider": "'twilio'"}, provider_message_id="'SM1'"
        )
        where = {"SMS_PROVIDERS": "mobile_message", "MOBILE_MESSAGE_BASE_URL": str(server.make_url(""))}
        code, told = await operator("message", str(known), "--ask", **where)
        assert (code, "today: mobile_message says delivered (delivered)" in told) == (0, True)
        _, told = await operator("message", str(unknown), "--ask", **where)
        assert "mobile_message does not know it, which proves nothing" in told
        code, told = await operator("message", str(stranger), "--ask", **where)
        assert (code, "twilio is not configured" in told) == (2, True)
    _, told = await operator("message", str(known), "--ask", **where)
    assert "mobile_message does not answer: " in told
