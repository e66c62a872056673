"""`/api/group-schedules/`: create, list, change and cancel batches."""

from typing import Any

import pytest

from common.paging import Page
from scheduling.batches import service
from services.scheduling.tests.stage import Stage, soon

BATCHES = "/api/group-schedules/"


async def test_a_batch_shows_its_text_as_written_and_its_messages_filled(stage: Stage) -> None:
    batch = await stage.make_batch(2, text="{{first_name}} " + "x" * 159, format="sms")
    assert (batch["text"], batch["message_parts"]) == ("{{first_name}} " + "x" * 159, 1)
    assert (batch["contact"], batch["phone"], batch["group_name"]) == (None, None, "Group 1")
    message = batch["schedules"][0]
    assert (message["text"], message["message_parts"]) == ("First1 " + "x" * 159, 2)
    assert (message["parent"], message["group_schedule_id"], message["name"]) == (batch["id"], batch["id"], "June")
    assert message["group"] == batch["group"]
    assert (await stage.client("GET", f"/api/schedules/{batch['id']}/")).status_code == 404
    assert (await stage.client("GET", f"{BATCHES}{message['id']}/")).status_code == 404


async def test_a_batch_of_another_organisation_is_not_found(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = await stage.other(method, f"{BATCHES}{batch['id']}/", {**batch, "group_id": 1})
        assert answer.status_code == 404
    assert (await stage.other("POST", f"{BATCHES}{batch['id']}/retry/")).status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"name": None}, 400, "name"),
        ({"name": " "}, 400, "name"),
        ({"text": ""}, 400, "text"),
        ({"text": "\u200b"}, 400, "text"),
        ({"text": "x" * 1531}, 400, "text"),
        ({"group_id": None}, 400, "group_id"),
        ({"group": 7}, 400, "group_id"),
        ({"group_id": 99}, 404, "detail"),
        ({"template_id": 99}, 404, "detail"),
        ({"scheduled_time": "2020-01-01"}, 400, "scheduled_time"),
        ({"format": "mms"}, 400, "media_url"),
    ],
)
async def test_an_invalid_batch_is_refused_under_its_field(
    stage: Stage, change: dict[str, Any], status: int, field: str
) -> None:
    body = {"name": "n", "group_id": stage.make_group(1), "text": "x", "scheduled_time": soon(), **change}
    answer = await stage.client("POST", BATCHES, body)
    assert answer.status_code == status, answer.text
    assert answer.json()[field]


async def test_a_batch_has_as_many_messages_as_its_answer_says_when_its_group_is_emptied_meanwhile(
    stage: Stage,
) -> None:
    members = [stage.make_contact()["contact_id"] for _ in range(2)]
    group = stage.contacts.add_group(stage.organisation, members, is_emptied_next=True)
    body = {"name": "n", "text": "x", "scheduled_time": soon(), "group_id": group}
    answer = await stage.client("POST", BATCHES, body)
    assert (answer.status_code, answer.json()["child_count"]) == (201, 2)
    assert len(await stage.rows("SELECT id FROM schedules WHERE kind = 'batch_message'")) == 2


async def test_a_group_without_eligible_members_and_a_deleted_group_are_refused(stage: Stage) -> None:
    opted_out, member = stage.make_contact(opt_out=True), stage.make_contact()
    empty = stage.contacts.add_group(stage.organisation, [opted_out["contact_id"]])
    deleted = stage.contacts.add_group(stage.organisation, [member["contact_id"]], is_active=False)
    body = {"name": "n", "text": "x", "scheduled_time": soon()}
    answer = await stage.client("POST", BATCHES, {**body, "group_id": empty})
    assert (answer.status_code, answer.json()["code"]) == (400, "no_recipients")
    assert answer.json()["detail"]
    assert (await stage.client("POST", BATCHES, {**body, "group_id": deleted})).json()["group_id"]


async def test_batches_of_all_days_are_listed(stage: Stage) -> None:
    first, second = await stage.make_batch(1), await stage.make_batch(2)
    await stage.rows(
        "UPDATE schedules SET scheduled_time = scheduled_time - interval '9 days' WHERE id = :id", id=first["id"]
    )
    page = await stage.client.ok("GET", BATCHES)
    assert [(b["id"], b["child_count"]) for b in page["results"]] == [(second["id"], 2), (first["id"], 1)]
    assert "schedules" not in page["results"][0]
    assert (await stage.other.ok("GET", BATCHES))["pagination"]["total"] == 0
    await stage.client("DELETE", f"{BATCHES}{second['id']}/")
    assert (await stage.client.ok("GET", BATCHES))["pagination"]["total"] == 1


async def test_batches_are_filtered_by_group_and_day(stage: Stage) -> None:
    first, second = await stage.make_batch(1), await stage.make_batch(2)
    await stage.rows(
        "UPDATE schedules SET scheduled_time = scheduled_time - interval '9 days' WHERE id = :id", id=first["id"]
    )
    day = second["scheduled_time"][:10]

    async def ids(query: str) -> list[int]:
        return [batch["id"] for batch in (await stage.client.ok("GET", f"{BATCHES}?{query}"))["results"]]

    assert await ids("group_id=1") == [first["id"]]
    assert await ids("group_id=&date=") == [second["id"], first["id"]]
    assert await ids(f"date={day}&tz=UTC") == [second["id"]]
    assert (await stage.client("GET", f"{BATCHES}?group_id=x")).json()["group_id"]
    assert (await stage.client("GET", f"{BATCHES}?group_id=99")).status_code == 404
    assert (await stage.other("GET", f"{BATCHES}?group_id=1")).status_code == 404


async def test_a_change_of_a_batch_reaches_its_pending_messages_only(stage: Stage) -> None:
    batch = await stage.make_batch(3)
    first, second, _ = batch["schedules"]
    own = {"text": "Own", "scheduled_time": "2026-12-24T09:00"}
    changed = await stage.client.ok("PATCH", f"/api/schedules/{first['id']}/", own)
    assert (changed["text"], changed["template"]) == ("Own", None)
    assert (await stage.client("DELETE", f"/api/schedules/{second['id']}/")).status_code == 204
    url = f"{BATCHES}{batch['id']}/"
    change = {"text": "New {{first_name}}", "name": "July", "scheduled_time": "2026-12-25T09:00"}
    changed = await stage.client.ok("PATCH", url, change)
    assert (changed["text"], changed["name"], changed["updated_by"]) == ("New {{first_name}}", "July", 1)
    messages = (await stage.client.ok("GET", url))["schedules"]
    assert [m["text"] for m in messages] == ["New First1", "Hi First2", "New First3"]
    times = [changed["scheduled_time"], second["scheduled_time"], changed["scheduled_time"]]
    assert [m["scheduled_time"] for m in messages] == times
    assert [m["status"] for m in messages] == ["pending", "cancelled", "pending"]
    await stage.make_due()
    await stage.dispatch()
    assert sorted(event.text for event in await stage.dispatches()) == ["New First1", "New First3"]
    answer = await stage.client("PATCH", url, {"text": "late"})
    assert (answer.status_code, answer.json()["code"]) == (400, "schedule_not_pending")


async def test_a_batch_can_be_written_back_and_keeps_its_group_and_name(stage: Stage) -> None:
    batch = await stage.make_batch(1)
    url = f"{BATCHES}{batch['id']}/"
    assert (await stage.client.ok("PUT", url, batch))["text"] == "Hi {{first_name}}"
    assert (await stage.client("PATCH", url, {"group_id": 5})).json()["group_id"]
    assert (await stage.client("PATCH", url, {"name": None})).json()["name"]


@pytest.mark.parametrize(
    ("left_out", "field"), [("name", "name"), ("group_id", "group_id"), ("text", "text"), ("scheduled_time",) * 2]
)
async def test_a_put_of_a_batch_needs_what_a_post_needs(stage: Stage, left_out: str, field: str) -> None:
    batch = await stage.make_batch(1)
    body = {"name": "n", "group_id": batch["group"], "text": "x", "scheduled_time": soon()}
    assert (await stage.client("PUT", f"{BATCHES}{batch['id']}/", body)).status_code == 200
    del body[left_out]
    for method, path in (("POST", BATCHES), ("PUT", f"{BATCHES}{batch['id']}/")):
        answer = await stage.client(method, path, body)
        assert (answer.status_code, next(iter(answer.json()))) == (400, field), method


async def test_a_put_of_an_mms_needs_a_media_url(stage: Stage) -> None:
    batch, schedule = await stage.make_batch(1), await stage.make_schedule()
    for path, shown in ((BATCHES, batch), ("/api/schedules/", schedule)):
        answer = await stage.client("PUT", f"{path}{shown['id']}/", {**shown, "format": "mms"})
        assert (answer.status_code, next(iter(answer.json()))) == (400, "media_url")


@pytest.mark.parametrize("body", [None, {}, {"status": "sent"}, {"expanding": True}])
async def test_a_patch_without_fields_changes_nothing(stage: Stage, body: Any) -> None:
    batch = await stage.make_batch(2)
    url = f"/api/schedules/{batch['schedules'][0]['id']}/"
    message = await stage.client.ok("PATCH", url, {"text": "Own"})
    await stage.client.ok("PATCH", f"{BATCHES}{batch['id']}/", body)
    assert await stage.client.ok("PATCH", url, body) == message
    shown = await stage.show_batch(batch["id"])
    assert shown["schedules"] == [message, batch["schedules"][1]]
    assert shown["updated_at"] == batch["updated_at"]


async def test_a_message_that_is_not_pending_keeps_what_it_had(stage: Stage) -> None:
    batch = await stage.make_batch(3)
    cancelled, failed, pending = batch["schedules"]
    await stage.client("DELETE", f"/api/schedules/{cancelled['id']}/")
    await stage.rows(
        "UPDATE schedules SET status = 'failed', failure_category = 'opted_out', error = 'x' WHERE id = :id",
        id=failed["id"],
    )
    content = {"text": "New", "format": "mms", "media_url": "https://a.au/b", "subject": "s"}
    for change in (content, {"scheduled_time": "2026-12-25T09:00"}, {"text": "Newest"}):
        await stage.client.ok("PATCH", f"{BATCHES}{batch['id']}/", change)
    shown = (await stage.show_batch(batch["id"]))["schedules"]
    names = ("text", "format", "media_url", "subject", "scheduled_time", "template")
    for before, after in zip((cancelled, failed), shown, strict=False):
        assert [after[name] for name in names] == [before[name] for name in names]
    assert (shown[2]["text"], shown[2]["scheduled_time"] == pending["scheduled_time"]) == ("Newest", False)


async def test_a_message_of_a_batch_may_be_dispatched_before_its_batch(stage: Stage) -> None:
    batch = await stage.make_batch(3)
    message = batch["schedules"][0]
    await stage.client.ok("PATCH", f"/api/schedules/{message['id']}/", {"scheduled_time": "2026-12-24T09:00"})
    await stage.make_due(message["id"])
    await stage.rows("UPDATE schedules SET next_due_at = now() WHERE id = :id", id=batch["id"])
    await stage.dispatch()
    assert [event.text for event in await stage.dispatches()] == ["Hi First1"]
    await stage.client.ok("PATCH", f"{BATCHES}{batch['id']}/", {"text": "New"})
    messages = (await stage.show_batch(batch["id"]))["schedules"]
    assert [m["text"] for m in messages] == ["Hi First1", "New", "New"]


async def test_a_contact_has_one_message_of_a_batch(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    url = f"/api/schedules/{batch['schedules'][0]['id']}/"
    assert (await stage.client("PATCH", url, {"contact": 2})).json()["contact"]
    third = stage.make_contact()
    assert (await stage.client.ok("PATCH", url, {"contact": third["contact_id"]}))["text"] == "Hi First3"


async def test_delivery_gets_the_known_reservations(stage: Stage) -> None:
    body = {"message": "x", "group_id": stage.make_group(1)}
    await stage.client.ok("POST", "/api/sms/send-to-group/", body)
    await stage.send()
    unknown = "0e9f2f0a-3d5c-4c1b-9d3e-3a3a3a3a3a3a"
    known = list(stage.delivery.reservations)
    route = "/internal/reservations/known/"
    answer = await stage.delivery_client.ok("POST", route, {"references": [*known, unknown]})
    assert sorted(answer["known"]) == sorted(known)
    assert len(known) == 2
    assert (await stage.client("POST", route, {"references": []})).status_code == 401


async def test_operator_lists_the_batches_of_an_organisation(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    async with stage.database.tenant(stage.organisation) as session:
        rows, total = await service.page_newest(session, Page())
    assert ([row.id for row in rows], total) == ([batch["id"]], 1)
    async with stage.database.tenant("org_other") as session:
        assert await service.page_newest(session, Page()) == ([], 0)
