"""The three sends: what is written and published, and what is refused."""

import asyncio
from typing import Any

import pytest

from services.scheduling.tests.stage import Stage

SEND = "/api/sms/send/"
MMS = "/api/sms/send-mms/"
GROUP = "/api/sms/send-to-group/"
ONE = {"message": "Hi", "recipient": "0491 000 999"}


async def test_a_send_is_reserved_written_and_published(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana", "company": "Acme"})
    message = " Hi {{ first_name }} of {{company}} "
    body = {"message": message, "recipient": "0491 000 001", "contact_id": ana["contact_id"]}
    answer = await stage.client("POST", SEND, body)
    assert answer.status_code == 202, answer.text
    [event] = await stage.dispatches()
    assert answer.json() == {
        "success": True,
        "message": "Message accepted.",
        "schedule_id": event.schedule_id,
        "status": "processing",
    }
    assert (event.dispatch_number, event.lane, event.parts) == (1, "single", 1)
    assert (event.text, event.phone, event.contact_id) == ("Hi Ana of Acme", "+61491000001", ana["contact_id"])
    assert event.request_id == answer.headers["X-Request-ID"]
    reservation = stage.delivery.reservations[str(event.reservation)]
    assert (reservation["format"], reservation["parts"]) == ("sms", 1)
    row = await stage.row(event.schedule_id)
    assert (row.status, row.dispatch_number, row.reservation) == ("processing", 1, event.reservation)
    assert (row.organisation_id, row.fields["first_name"]) == (stage.organisation, "Ana")


async def test_a_send_is_listed_in_its_own_organisation_only(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana", "last_name": "Lee"})
    body = {"message": "Hi {{first_name}}", "recipient": "0491 000 001", "contact_id": ana["contact_id"]}
    await stage.send(**body)
    shown = await stage.client.ok("GET", "/api/schedules/")
    assert [(s["text"], s["recipient_name"]) for s in shown["results"]] == [("Hi Ana", "Ana Lee")]
    assert (await stage.other("POST", SEND, body)).status_code == 404
    assert (await stage.other.ok("GET", "/api/schedules/"))["results"] == []


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
async def test_an_invalid_send_is_refused_and_writes_nothing(
    stage: Stage, path: str, body: dict[str, Any], status: int, field: str
) -> None:
    stage.make_group(1)
    answer = await stage.client("POST", path, body)
    assert answer.status_code == status, answer.text
    assert answer.json()[field]
    assert not await stage.dispatches()
    assert not await stage.rows("SELECT 1 FROM schedules")
    assert not stage.delivery.reservations


async def test_an_opt_out_of_the_number_or_of_the_contact_refuses_the_send(stage: Stage) -> None:
    opted_out, contact = stage.make_contact(opt_out=True), stage.make_contact()
    for body in (
        {"message": "x", "recipient": opted_out["phone"]},
        {"message": "x", "recipient": opted_out["phone"], "contact_id": contact["contact_id"]},
        {"message": "x", "recipient": "0491000999", "contact_id": opted_out["contact_id"]},
    ):
        answer = await stage.client("POST", SEND, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "opted_out")
        assert answer.json()["recipient"]


async def test_a_send_beyond_the_limit_is_refused_with_what_is_left(stage: Stage) -> None:
    stage.delivery.remaining = 1
    group = stage.make_group(2)
    for path, body in ((SEND, {**ONE, "message": "x" * 161}), (GROUP, {"message": "x", "group_id": group})):
        answer = await stage.client("POST", path, body)
        refused = answer.json()
        assert (answer.status_code, refused["code"]) == (400, "limit_exceeded")
        assert (refused["remaining"], refused["required"], refused["limit"]) == (1, 2, 10)
        assert refused["detail"]
    assert not await stage.rows("SELECT 1 FROM schedules")


async def test_sends_at_once_are_each_answered_for_themselves(stage: Stage) -> None:
    """Sends of one organisation share a call and a statement, and their answers must not be mixed up."""
    opted_out = "+61491000555"
    stage.delivery.opted_out = {opted_out}
    stage.delivery.remaining = 1
    given: list[dict[str, Any]] = [
        {"message": f"Message {number}", "recipient": f"+6149100{number:04d}"} for number in range(30)
    ]
    given[7]["message"] = "x" * 161
    given[11]["recipient"] = opted_out
    others = [{**body, "message": "Another's"} for body in given[:5]]
    answers = await asyncio.gather(
        *(stage.client("POST", SEND, body) for body in given), *(stage.other("POST", SEND, body) for body in others)
    )
    codes = {7: "limit_exceeded", 11: "opted_out"}
    for place, (body, answer) in enumerate(zip([*given, *others], answers, strict=True)):
        assert answer.json().get("code") == codes.get(place), answer.text
        if place not in codes:
            row = await stage.row(answer.json()["schedule_id"])
            assert (row.text, row.phone) == (body["message"], body["recipient"])
            assert row.organisation_id == (stage.organisation if place < len(given) else "org_other")
            assert row.request_id == answer.headers["X-Request-ID"]
    events = {event.schedule_id: event for event in await stage.dispatches()}
    assert len(events) == 33
    assert len({event.reservation for event in events.values()}) == 33


async def test_without_delivery_a_send_is_accepted_without_a_reservation(stage: Stage) -> None:
    stage.delivery.unavailable = True
    assert (await stage.client("POST", SEND, ONE)).status_code == 202
    [event] = await stage.dispatches()
    assert event.reservation is None


async def test_an_mms_counts_as_one_part_and_may_have_no_text(stage: Stage) -> None:
    body = {"media_url": "https://example.com/a.png", "recipient": "0491000999", "subject": "Hi", "contact_id": None}
    assert (await stage.client("POST", MMS, body)).status_code == 202
    [event] = await stage.dispatches()
    assert (event.format, event.text, event.subject, event.parts) == ("mms", "", "Hi", 1)
    assert event.media_url == "https://example.com/a.png"
    [reservation] = stage.delivery.reservations.values()
    assert (reservation["format"], reservation["parts"]) == ("mms", 1)


async def test_a_send_goes_to_the_number_that_it_names_even_with_a_contact(stage: Stage) -> None:
    ana = stage.make_contact()
    schedule_id = await stage.send(contact_id=ana["contact_id"])
    [event] = await stage.dispatches()
    assert (event.phone, event.contact_id) == ("+61491000999", ana["contact_id"])
    assert (await stage.row(schedule_id)).has_own_phone


async def test_a_send_to_a_group_is_a_batch_named_after_group_and_time(stage: Stage) -> None:
    body = {"message": "Hi {{first_name}}" + "x" * 160, "group_id": stage.make_group(3)}
    accepted = await stage.client.ok("POST", GROUP, body)
    assert accepted["results"] == {"successful": 3, "failed": 0, "total": 3}
    assert accepted["group_name"] == "Group 1"
    [reservation] = stage.delivery.reservations.values()
    assert reservation["parts"] == 6
    detail = await stage.show_batch(accepted["group_schedule_id"])
    assert detail["name"].startswith("Group 1 20")
    assert detail["status"] == "processing"
    await stage.dispatch()
    assert len(await stage.dispatches()) == 3


async def test_an_idempotency_key_sends_once(stage: Stage) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await stage.client("POST", SEND, ONE, headers=key)
    again = await stage.client("POST", SEND, ONE, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await stage.client("POST", SEND, {**ONE, "message": "other"}, headers=key)).status_code == 422
    assert (await stage.other("POST", SEND, ONE, headers=key)).json() != first.json()
    assert len(await stage.rows("SELECT 1 FROM schedules")) == 2


async def test_a_refused_send_does_not_use_up_its_key(stage: Stage) -> None:
    stage.delivery.remaining = 0
    key = {"Idempotency-Key": "k2", "Prefer": "wait=1"}
    assert (await stage.client("POST", SEND, ONE, headers=key)).status_code == 400
    stage.delivery.remaining = None
    assert (await stage.client("POST", SEND, ONE, headers=key)).status_code == 202
    assert len(await stage.rows("SELECT 1 FROM schedules")) == 1
