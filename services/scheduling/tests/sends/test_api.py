import asyncio

import pytest

from common.events import ScheduleDue
from scheduling.batches.loops import finish_batches

SEND = "/api/sms/send/"
MMS = "/api/sms/send-mms/"
GROUP = "/api/sms/send-to-group/"
ONE = {"message": "Hi", "recipient": "0491 000 999"}


async def test_a_send_is_held_written_and_published_in_one_go(
    client, other, contacts, delivery, organisation, database, outbox_events, row_of
):
    ana = contacts.add(organisation, {"first_name": "Ana", "company": "Acme"})
    message = " Hi {{ first_name }} of {{company}} "
    body = {"message": message, "recipient": "0491 000 001", "contact_id": ana["contact_id"]}
    answer = await client("POST", SEND, body)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told == {
        "success": True,
        "message": told["message"],
        "schedule_id": told["schedule_id"],
        "status": "processing",
    }
    [event] = await outbox_events(database)
    assert isinstance(event, ScheduleDue)
    assert (event.schedule_id, event.dispatch_number, event.lane, event.parts) == (told["schedule_id"], 1, "single", 1)
    assert (event.text, event.phone, event.contact_id) == ("Hi Ana of Acme", "+61491000001", ana["contact_id"])
    assert event.request_id == answer.headers["X-Request-ID"]
    reservation = delivery.reservations[str(event.reservation)]
    assert (reservation["format"], reservation["parts"]) == ("sms", 1)
    row = await row_of(told["schedule_id"])
    assert (row.status, row.dispatch_number, row.reservation, row.organisation_id) == (
        "processing",
        1,
        event.reservation,
        organisation,
    )
    shown = await client.ok("GET", "/api/schedules/")
    assert [(s["text"], s["recipient_name"]) for s in shown["results"]] == [("Hi Ana of Acme", "Ana Last1")]
    assert (await other("POST", SEND, body)).status_code == 404
    assert (await other.ok("GET", "/api/schedules/"))["results"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        (SEND, {"recipient": "0491000999"}, 400, "message"),
        (SEND, {**ONE, "message": "  "}, 400, "message"),
        (SEND, {**ONE, "message": "x" * 1531}, 400, "message"),
        (SEND, {**ONE, "message": "{{first_name}}"}, 400, "message"),
        (SEND, {**ONE, "message": "{{x}}"}, 400, "message"),
        (SEND, {**ONE, "recipient": "12"}, 400, "recipient"),
        (SEND, {**ONE, "recipient": None}, 400, "recipient"),
        (SEND, {**ONE, "contact_id": 99}, 404, "detail"),
        (MMS, ONE, 400, "media_url"),
        (MMS, {**ONE, "media_url": "x"}, 400, "media_url"),
        (MMS, {**ONE, "media_url": "https://x/y", "message": "x" * 1601}, 400, "message"),
        (MMS, {**ONE, "media_url": "https://x/y", "subject": "x" * 65}, 400, "subject"),
        (GROUP, {"message": "x"}, 400, "group_id"),
        (GROUP, {"message": "", "group_id": 1}, 400, "message"),
        (GROUP, {"message": "x" * 1531, "group_id": 1}, 400, "message"),
        (GROUP, {"message": "x", "group_id": 99}, 404, "detail"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_leaves_nothing(
    client, make_group, database, outbox_events, run_sql, delivery, path, body, status, field
):
    make_group(1)
    answer = await client("POST", path, body)
    assert answer.status_code == status, answer.text
    assert answer.json()[field]
    assert not await outbox_events(database)
    assert not await run_sql("SELECT 1 FROM schedules")
    assert not delivery.reservations


async def test_an_opt_out_of_the_number_or_the_contact_refuses(client, contacts, organisation):
    out, fine = contacts.add(organisation, opt_out=True), contacts.add(organisation)
    for body in (
        {"message": "x", "recipient": out["phone"]},
        {"message": "x", "recipient": out["phone"], "contact_id": fine["contact_id"]},
        {"message": "x", "recipient": "0491000999", "contact_id": out["contact_id"]},
    ):
        answer = await client("POST", SEND, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "opted_out")
        assert answer.json()["recipient"]


async def test_a_limit_says_how_many_are_left(client, delivery, make_group, run_sql):
    delivery.remaining = 1
    for path, body in ((SEND, {**ONE, "message": "x" * 161}), (GROUP, {"message": "x", "group_id": make_group(2)})):
        answer = await client("POST", path, body)
        told = answer.json()
        assert (answer.status_code, told["code"]) == (400, "limit_exceeded")
        assert (told["remaining"], told["required"], told["limit"]) == (1, 2, 10)
        assert told["detail"]
    assert not await run_sql("SELECT 1 FROM schedules")


async def test_without_delivery_a_send_is_accepted_and_checked_there(client, delivery, database, outbox_events):
    delivery.unavailable = True
    assert (await client("POST", SEND, ONE)).status_code == 202
    [event] = await outbox_events(database)
    assert event.reservation is None


async def test_a_picture_counts_as_one_and_may_have_no_text(client, delivery, database, outbox_events):
    body = {"media_url": "https://example.com/a.png", "recipient": "0491000999", "subject": "Hi", "contact_id": None}
    assert (await client("POST", MMS, body)).status_code == 202
    [event] = await outbox_events(database)
    assert (event.format, event.text, event.subject, event.parts) == ("mms", "", "Hi", 1)
    assert event.media_url == "https://example.com/a.png"
    [reservation] = delivery.reservations.values()
    assert (reservation["format"], reservation["parts"]) == ("mms", 1)


async def test_a_send_keeps_its_number_whatever_the_contacts(client, contacts, organisation, database, outbox_events):
    ana = contacts.add(organisation)
    await client.ok("POST", SEND, {**ONE, "contact_id": ana["contact_id"]})
    [event] = await outbox_events(database)
    assert (event.phone, event.contact_id) == ("+61491000999", ana["contact_id"])


async def test_a_batch_now_is_named_after_group_and_time(
    client, delivery, make_group, database, dispatch, outbox_events
):
    told = await client.ok("POST", GROUP, {"message": "Hi {{first_name}}" + "x" * 160, "group_id": make_group(3)})
    assert told["results"] == {"successful": 3, "failed": 0, "total": 3}
    assert told["group_name"] == "Group 1"
    [reservation] = delivery.reservations.values()
    assert reservation["parts"] == 6
    detail = await client.ok("GET", f"/api/group-schedules/{told['group_schedule_id']}/")
    assert detail["name"].startswith("Group 1 20")
    assert detail["status"] == "processing"
    await dispatch()
    assert len(await outbox_events(database)) == 3


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("status='sent'", 200), ("status='failed', failure_category='blocked', error='No.'", 502)],
)
async def test_a_waiting_send_answers_with_the_outcome(client, run_sql, eventually, outcome, status):
    waiting = asyncio.create_task(client("POST", SEND, ONE, headers={"Prefer": "respond-async, wait=99"}))

    async def is_written():
        return await run_sql("SELECT 1 FROM schedules")

    await eventually(is_written)
    await run_sql(f"UPDATE schedules SET {outcome}")
    answer = await waiting
    assert answer.status_code == status
    assert answer.headers["Preference-Applied"] == "wait=30"
    told = answer.json()
    assert told["success"] is (status == 200)
    assert told["schedule_id"]
    if status == 502:
        assert (told["error"], told["failure_category"]) == ("No.", "blocked")
        assert told["request_id"] == answer.headers["X-Request-ID"]
        assert told["code"]


async def test_a_wait_ends_with_what_was_accepted(client):
    answer = await client("POST", SEND, ONE, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=1")
    answer = await client("POST", SEND, ONE, headers={"Prefer": "wait=soon"})
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (202, False)


@pytest.mark.parametrize(("sent", "status"), [(3, 200), (1, 207), (0, 502)])
async def test_a_waiting_batch_tells_its_counts(client, make_group, run_sql, database, eventually, sent, status):
    body = {"message": "x", "group_id": make_group(3)}
    waiting = asyncio.create_task(client("POST", GROUP, body, headers={"Prefer": "wait=30"}))

    async def is_written():
        return await run_sql("SELECT 1 FROM schedules")

    await eventually(is_written)
    await run_sql(
        "UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'No.' WHERE kind = 'batch_message'"
    )
    await run_sql(
        "UPDATE schedules SET status = 'sent' WHERE id IN"
        " (SELECT id FROM schedules WHERE kind = 'batch_message' ORDER BY id LIMIT :sent)",
        sent=sent,
    )
    await finish_batches(database)
    answer = await waiting
    assert answer.status_code == status
    assert answer.json()["success"] is (sent > 0)
    assert answer.json()["results"] == {"successful": sent, "failed": 3 - sent, "total": 3}


async def test_a_key_sends_once(client, other, run_sql, delivery):
    key = {"Idempotency-Key": "k1"}
    first = await client("POST", SEND, ONE, headers=key)
    again = await client("POST", SEND, ONE, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await client("POST", SEND, {**ONE, "message": "other"}, headers=key)).status_code == 422
    assert (await other("POST", SEND, ONE, headers=key)).json() != first.json()
    assert len(await run_sql("SELECT 1 FROM schedules")) == 2
    await run_sql("UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'No.'")
    answer = await client("POST", SEND, ONE, headers={**key, "Prefer": "wait=5"})
    assert (answer.status_code, answer.json()["schedule_id"]) == (502, first.json()["schedule_id"])
    assert answer.headers["Idempotent-Replayed"] == "true"


FAIL = "UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'No.'"


async def test_a_replay_of_a_send_that_waited_has_the_outcome_known_by_then(client, run_sql):
    key = {"Idempotency-Key": "k1"}
    first = await client("POST", SEND, ONE, headers={**key, "Prefer": "wait=0.1, wait=1"})
    assert first.status_code == 202
    again = await client("POST", SEND, ONE, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    await run_sql(FAIL)
    for _ in range(2):
        again = await client("POST", SEND, ONE, headers=key)
        assert (again.status_code, again.json()["failure_category"]) == (502, "blocked")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert "Preference-Applied" not in again.headers
    await run_sql("UPDATE schedules SET status = 'delivered', failure_category = NULL, error = NULL")
    again = await client("POST", SEND, ONE, headers={**key, "Prefer": "wait=1"})
    assert (again.status_code, again.json()["status"]) == (200, "delivered")
    assert again.headers["Preference-Applied"] == "wait=1"
    assert len(await run_sql("SELECT 1 FROM schedules")) == 1


async def test_a_replay_of_a_send_that_did_not_wait_has_its_first_answer(client, run_sql):
    key = {"Idempotency-Key": "k1"}
    first = await client("POST", SEND, ONE, headers=key)
    await run_sql(FAIL)
    again = await client("POST", SEND, ONE, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())


async def test_a_replay_of_a_batch_that_waited(client, make_group, run_sql):
    key, body = {"Idempotency-Key": "k1"}, {"message": "Hi", "group_id": make_group(2)}
    first = await client("POST", "/api/sms/send-to-group/", body, headers={**key, "Prefer": "wait=1"})
    assert first.status_code == 202
    await run_sql("UPDATE schedules SET status = CASE kind WHEN 'batch' THEN 'sent' ELSE 'delivered' END")
    await run_sql(FAIL + " WHERE id = (SELECT max(id) FROM schedules)")
    again = await client("POST", "/api/sms/send-to-group/", body, headers=key)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (207, "true")
    assert again.json()["results"] == {"successful": 1, "failed": 1, "total": 2}


async def test_a_refused_send_does_not_use_up_its_key(client, delivery, run_sql):
    delivery.remaining = 0
    key = {"Idempotency-Key": "k2", "Prefer": "wait=1"}
    assert (await client("POST", SEND, ONE, headers=key)).status_code == 400
    delivery.remaining = None
    assert (await client("POST", SEND, ONE, headers=key)).status_code == 202
    assert len(await run_sql("SELECT 1 FROM schedules")) == 1


async def test_what_a_text_would_cost(client, other, contacts, organisation):
    ana = contacts.add(organisation, {"first_name": "Ana"})
    template = await client.ok("POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}} – ok"})
    preview = "/api/sms/preview/"
    told = await client.ok("POST", preview, {"template_id": template["id"], "contact_id": ana["contact_id"]})
    assert told == {
        "text": "Hi Ana – ok",
        "encoding": "UCS-2",
        "units": 11,
        "parts": 1,
        "suggestion": {"text": "Hi Ana - ok", "encoding": "GSM-7", "units": 11, "parts": 1},
    }
    told = await client.ok("POST", preview, {"message": "Hi {{first_name}}"})
    assert (told["text"], told["suggestion"]) == ("Hi {{first_name}}", None)
    assert (await client("POST", preview, {})).json()["message"]
    for text in ("one", "two"):
        again = await client("POST", preview, {"message": text}, headers={"Idempotency-Key": "k1"})
        assert (again.status_code, again.json()["text"]) == (200, text)
    for body in ({"template_id": template["id"]}, {"message": "x", "contact_id": ana["contact_id"]}):
        assert (await other("POST", preview, body)).status_code == 404
