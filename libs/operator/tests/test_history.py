"""The history of one message is shown from all services."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from .conftest import Cooee, Sql
from .test_stuck import PHONE, TEXT, add_message, add_schedule


@pytest.fixture
async def journey(sql: Sql, organisation: str) -> tuple[int, int]:
    """Store a schedule that failed, was retried, delivered and replied to. Return its id and its second message's."""
    sent = {"dispatch_number": "2", "contact_id": "5", "provider": "'twilio'", "attempts": "1", "sent_time": "now()"}
    schedule = await add_schedule(sql, organisation, "delivered", delivered_time="now()", **sent)
    of = {"schedule_id": str(schedule), "contact_id": "5"}
    failed = {"failure_category": "'unroutable'", "error": "'No route to +61491570006.'", "provider": "'aws'"}
    await add_message(sql, organisation, "failed", dispatch_number="1", **of, **failed)
    key = "'7f0e6a1f-5f0e-4d55-9d0d-0b6f8a5a1c11'"
    sent = {"dispatch_number": "2", "provider": "'twilio'", "provider_message_id": "'SM123'", "attempts": "1"}
    sent["submission_key"] = key
    period = {"period": "date '2026-11-01'", "sent_time": "now()", "delivered_time": "now()", "billed_parts": "1"}
    message = await add_message(sql, organisation, "delivered", **of, **sent, **period)
    await sql("delivery", f"INSERT INTO limit_usage VALUES ('{organisation}', date '2026-11-01', 'sms', 41)")
    await sql(
        "delivery", f"INSERT INTO configs (organisation_id, name, value) VALUES ('{organisation}', 'sms_limit', '100')"
    )
    await sql(
        "delivery",
        "INSERT INTO webhook_events (provider, fingerprint, kind, body, message_id, due_at, request_id)"
        f" VALUES ('twilio', 'x', 'receipt', '{{}}', {message}, NULL, '')",
    )
    await sql(
        "delivery",
        "INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, schedule_id,"
        f" keyword) VALUES ('{organisation}', '{PHONE}', 'x', 'Stop it', now(), 'twilio', {schedule}, 'stop')",
    )
    await sql(
        "delivery",
        f"INSERT INTO opt_outs VALUES ('{organisation}', '{PHONE}', true, now(), 'reply', NULL, 1)",
    )
    await sql(
        "delivery",
        "INSERT INTO outbox (event_id, topic, key, body, request_id)"
        f" VALUES (gen_random_uuid(), 'delivery.message-delivered.v1', '{schedule}', 'x', '')",
    )
    return schedule, message


async def test_message_is_shown_from_all_services_by_either_id(cooee: Cooee, journey: tuple[int, int]) -> None:
    schedule, message = journey
    shown = await cooee("history", "--schedule", str(schedule))
    assert shown.code == 0
    for expected in (
        f"scheduling: schedule {schedule}, single, delivered",
        "by twilio, attempts 1",
        "delivery: event delivery.message-delivered.v1 is in the outbox",
        f"failed, dispatch 1 of schedule {schedule}",
        "unroutable: No route to +614…06.",
        f"delivery: message {message}, delivered, dispatch 2 of schedule {schedule}",
        "twilio SM123",
        "7f0e6a1f-5f0e-4d55-9d0d-0b6f8a5a1c11 complete",
        "billed 1 part",
        "counted; 41 used in 2026-11, limit 100",
        "delivery: receipt of twilio at",
        "delivery: inbound message ",
        "(stop)",
        "delivery now: the phone is opted out",
    ):
        assert expected in shown.out, expected
    assert await cooee("history", str(message)) == shown
    document = (await cooee("history", str(message), "--json")).document
    assert (document["schedule"]["id"], document["schedule"]["status"]) == (schedule, "delivered")
    assert [(one["status"], one["dispatch_number"]) for one in document["messages"]] == [
        ("failed", 1),
        ("delivered", 2),
    ]
    assert document["messages"][1]["usage"] == {"counted": True, "month": "2026-11", "used": 41, "limit": "100"}
    assert document["messages"][1]["submission"]["state"] == "complete"
    assert [event["topic"] for event in document["events_in_outbox"]] == ["delivery.message-delivered.v1"]
    assert document["recipient"] == {"phone_opted_out": True, "contact_opted_out": False, "closed": False}


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("options", [(), ("--show-phones",), ("--show-texts",)])
async def test_phones_and_texts_are_shown_only_when_asked_for(
    cooee: Cooee, journey: tuple[int, int], options: tuple[str, ...], form: tuple[str, ...]
) -> None:
    shown = await cooee("history", str(journey[1]), *options, *form)
    assert (PHONE in shown.out, PHONE[:4] + "…" + PHONE[-2:] in shown.out) == (
        "--show-phones" in options,
        "--show-phones" not in options,
    )
    assert (TEXT in shown.out, "Stop it" in shown.out) == ("--show-texts" in options,) * 2


async def test_schedule_without_a_message_is_reported(cooee: Cooee, sql: Sql, organisation: str) -> None:
    schedule = await add_schedule(
        sql, organisation, "processing", dispatch_number="1", sweep_count="2", sweep_at="now()"
    )
    shown = await cooee("history", "--schedule", str(schedule))
    assert shown.code == 0
    assert "delivery asked 2 times" in shown.out
    assert "delivery: has no message of this schedule" in shown.out
    missing = await cooee("history", "999", "--json")
    assert (missing.code, missing.document["error"]["kind"]) == (4, "not_found")


async def test_provider_is_asked_for_the_present_status(cooee: Cooee, sql: Sql, organisation: str) -> None:
    async def look_up(request: web.Request) -> web.Response:
        message_id = request.query["message_id"]
        found = [{"message_id": message_id, "custom_ref": "1", "status": "delivered"}] if message_id == "mm-1" else []
        return web.json_response({"results": found})

    app = web.Application()
    app.router.add_get("/v1/messages", look_up)
    async with TestServer(app) as server:
        of: dict[str, str] = {"provider": "'mobile_message'", "attempts": "1", "sent_time": "now()"}
        known = await add_message(sql, organisation, "sent", schedule_id="1", provider_message_id="'mm-1'", **of)
        unknown = await add_message(sql, organisation, "sent", schedule_id="2", provider_message_id="'mm-2'", **of)
        unconfigured = await add_message(
            sql, organisation, "sent", **of | {"provider": "'twilio'"}, provider_message_id="'SM1'"
        )
        variables = {"SMS_PROVIDERS": "mobile_message", "MOBILE_MESSAGE_BASE_URL": str(server.make_url(""))}
        asked = await cooee("history", str(known), "--ask", **variables)
        assert (asked.code, "provider now: mobile_message reports delivered (delivered)" in asked.out) == (0, True)
        asked = await cooee("history", str(unknown), "--ask", **variables)
        assert (asked.code, "mobile_message does not know the message" in asked.out) == (0, True)
        asked = await cooee("history", str(unconfigured), "--ask", **variables)
        assert (asked.code, "twilio is not configured" in asked.out) == (3, True)
        invalid = variables | {"MMS_PROVIDERS": "twilio"}
        asked = await cooee("history", str(known), "--ask", **invalid)
        assert (asked.code, "TWILIO_ACCOUNT_SID" in asked.err) == (6, True), "a setting of another provider"
    asked = await cooee("history", str(known), "--ask", "--json", MMS_PROVIDERS="", **variables)
    (answer,) = asked.document["provider_answers"]
    assert (asked.code, answer["message_id"], answer["answer"]) == (3, known, "no_answer")
