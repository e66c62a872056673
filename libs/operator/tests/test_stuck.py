"""What is stuck is listed and counted by organisation, without phones and texts."""

import pytest

from .conftest import Cooee, Sql

PHONE, TEXT = "+61491570006", "Hi Ana"
HOUR = "now() - interval '1 hour'"


async def add_schedule(sql: Sql, organisation: str, status: str, **changes: str) -> int:
    """Store a schedule that is an hour old and return its id. Values are SQL."""
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
    """Store a message that is an hour old and return its id. Values are SQL."""
    values = {
        "organisation_id": f"'{organisation}'",
        "schedule_id": "7",
        "dispatch_number": "(SELECT count(*) + 1 FROM messages)",
        "phone": f"'{PHONE}'",
        "text": f"'{TEXT}'",
        "format": "'sms'",
        "parts": "1",
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
    """Store an event that is an hour old in the outbox."""
    await sql(
        service,
        "INSERT INTO outbox (event_id, topic, key, body, request_id, created_at)"
        f" VALUES (gen_random_uuid(), :topic, 'k', 'b', '', {HOUR})",
        topic=topic,
    )


async def test_nothing_is_stuck_in_a_quiet_system(cooee: Cooee, sql: Sql, organisation: str) -> None:
    await add_schedule(sql, organisation, "sent")
    await add_schedule(sql, organisation, "processing", updated_at="now()")
    await add_schedule(sql, organisation, "pending", scheduled_time="now() + interval '1 hour'")
    await add_message(sql, organisation, "sent")
    quiet = await cooee("stuck")
    assert (quiet.code, quiet.out) == (0, "nothing is stuck\n")
    assert (await cooee("stuck", "--json")).document == {"minutes": 5, "stuck": [], "waiting": []}


async def test_everything_stuck_is_listed_once_with_its_reason(cooee: Cooee, sql: Sql, organisation: str) -> None:
    await add_schedule(sql, organisation, "processing", sweep_count="3")
    await add_schedule(sql, organisation, "processing", sweep_count="3")
    await add_schedule(sql, organisation, "pending")
    values = {"kind": "'batch'", "group_id": "1", "next_due_at": "now()", "message_count": "5", "phone": "NULL"}
    batch = await add_schedule(sql, organisation, "pending", scheduled_time="now() + interval '1 day'", **values)
    await add_message(sql, organisation, "queued")
    waiting = {"provider": "'twilio'", "failure_category": "'account_error'", "attempts": "2"}
    await add_message(sql, organisation, "retry_wait", next_attempt_at="now()", **waiting)
    unknown = await add_message(sql, organisation, "unknown", provider="'twilio'")
    await sql(
        "delivery",
        "INSERT INTO submissions (key, provider, message_ids, body, tries, state, tried_at, due_at, give_up_at)"
        f" VALUES (gen_random_uuid(), 'twilio', ARRAY[{unknown}], 'x', 4, 'unknown', {HOUR}, now(), now())",
    )
    await sql("delivery", f"INSERT INTO limit_usage VALUES ('{organisation}', date '2026-11-01', 'sms', 9)")
    await sql(
        "delivery",
        f"INSERT INTO reservations VALUES (gen_random_uuid(), '{organisation}', date '2026-11-01', 'sms', 9, {HOUR})",
    )
    await sql(
        "delivery",
        "INSERT INTO webhook_events (provider, fingerprint, kind, body, checks, received_at, request_id)"
        f" VALUES ('aws', 'x', 'receipt', '{{}}', 6, {HOUR}, '')",
    )
    await add_outbox(sql, "delivery", "delivery.message-sent.v1")
    await add_outbox(sql, "contacts", "contacts.contact-changed.v1")
    await sql(
        "scheduling",
        "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error)"
        " VALUES ('delivery.message-sent.v1', 0, 1, 'x', 'x', 'x')",
    )
    listed = await cooee("stuck")
    assert listed.code == 1
    for expected in (
        "scheduling: 2 schedules in processing",
        "asked 3 times",
        "scheduling: 1 overdue schedules",
        "scheduling: 1 batches without a finished fan-out",
        f"batch {batch}",
        "delivery: 1 queued messages",
        "delivery: 1 messages that wait for another attempt",
        "twilio account_error, attempt 2",
        "delivery: 1 messages with an unknown outcome",
        "delivery: 1 submissions without a result",
        "twilio unknown, 1 messages, at most 4 tries",
        "delivery: 1 reservations with an overdue check",
        "sms, 9 parts",
        "delivery: 1 webhook events that match no message",
        "aws receipt, checked 6 times",
        "delivery: 1 events in the outbox",
        "contacts: 1 events in the outbox",
        "scheduling: 1 dead letters",
    ):
        assert listed.out.count(expected) == 1, expected
    assert organisation in listed.out
    as_json = await cooee("stuck", "--json")
    assert as_json.code == 1
    first = as_json.document["stuck"][0]
    assert (first["service"], first["subject"], first["number"]) == ("scheduling", "schedules in processing", 2)
    (group,) = first["groups"]
    assert (group["organisation_id"], group["number"], group["detail"]) == (organisation, 2, "asked 3 times")
    for output in (listed.out, as_json.out):
        assert PHONE not in output
        assert TEXT not in output


async def test_messages_without_a_receipt_are_listed_for_providers_that_send_receipts(
    cooee: Cooee, sql: Sql, organisation: str
) -> None:
    two_days_ago = "now() - interval '2 days'"
    await add_message(sql, organisation, "sent", provider="'twilio'", sent_time=two_days_ago)
    await add_message(sql, organisation, "sent", provider="'log'", sent_time=two_days_ago)
    await add_message(sql, organisation, "sent", provider="'twilio'", sent_time=HOUR)
    await add_message(sql, organisation, "delivered", provider="'twilio'", sent_time=two_days_ago)
    listed = await cooee("stuck")
    assert (listed.code, listed.out.count("without a delivery receipt")) == (1, 1)
    assert "delivery: 1 sent messages without a delivery receipt for a day" in listed.out


@pytest.mark.parametrize(("minutes", "code"), [("30", 1), ("90", 0)])
async def test_minutes_set_how_long_something_may_take(
    cooee: Cooee, sql: Sql, organisation: str, minutes: str, code: int
) -> None:
    await add_message(sql, organisation, "queued")
    assert (await cooee("stuck", "--minutes", minutes)).code == code


async def test_what_waits_because_of_a_pause_is_listed_and_is_not_stuck(cooee: Cooee, sql: Sql) -> None:
    for name in ("org_paused", "org_other"):
        await sql("contacts", "INSERT INTO organisations (organisation_id) VALUES (:name)", name=name)
    await add_message(sql, "org_paused", "queued")
    await add_schedule(sql, "org_paused", "processing", sweep_count="3")
    await cooee("pause", "organisation", "org_paused", "--operator", "ana", reason="ticket 12")
    listed = await cooee("stuck")
    assert (listed.code, listed.out.startswith("nothing is stuck\n")) == (0, True)
    assert listed.out.count("organisation org_paused is paused by ana: ticket 12") == 2
    found = (await cooee("stuck", "--json")).document
    assert (found["stuck"], [one["subject"] for one in found["waiting"]]) == (
        [],
        ["schedules in processing", "queued messages"],
    )
    # Its single schedules are dispatched as usual, so one that is overdue is stuck for another reason.
    await add_schedule(sql, "org_paused", "pending")
    await add_message(sql, "org_other", "queued")
    found = (await cooee("stuck", "--json")).document
    assert [(one["subject"], one["groups"][0]["organisation_id"]) for one in found["stuck"]] == [
        ("overdue schedules", "org_paused"),
        ("queued messages", "org_other"),
    ]


async def test_messages_of_a_paused_provider_wait_and_those_of_another_are_stuck(cooee: Cooee, sql: Sql) -> None:
    chains = {"SMS_PROVIDERS": "mobile_message,log", "MMS_PROVIDERS": "log"}
    await sql("delivery", "INSERT INTO configs (organisation_id, name, value) VALUES ('org_b', 'sms_providers', 'log')")
    for organisation, message_format in (("org_a", "sms"), ("org_b", "sms"), ("org_a", "mms")):
        await add_message(sql, organisation, "queued", format=f"'{message_format}'")
    assert (await cooee("pause", "provider", "mobile_message", **chains)).code == 0
    found = (await cooee("stuck", "--json", **chains)).document

    def groups(name: str) -> list[tuple[str, str]]:
        return sorted((row["organisation_id"], row["detail"]) for one in found[name] for row in one["groups"])

    assert groups("stuck") == [("org_a", "mms single"), ("org_b", "sms single")]
    assert [(name, "provider mobile_message is paused" in why) for name, why in groups("waiting")] == [("org_a", True)]
    await cooee("resume", "provider", "mobile_message", **chains)
    assert len((await cooee("stuck", "--json", **chains)).document["stuck"][0]["groups"]) == 3
