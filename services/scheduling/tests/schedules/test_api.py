"""`/api/schedules/`: create, read, change and cancel single schedules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.scheduling.tests.stage import Stage, soon

SCHEDULES = "/api/schedules/"


def in_367_days() -> str:
    return (datetime.now(UTC) + timedelta(days=367)).isoformat()


async def test_a_schedule_shows_what_will_be_sent(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana", "last_name": "Lee", "company": "Acme"})
    template = await stage.client.ok(
        "POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}} of {{company}}"}
    )
    body = {
        "contact_id": ana["contact_id"],
        "phone": "0400000000",
        "template": template["id"],
        "text": "template wins",
        "name": "Reminder",
        "scheduled_time": soon(),
        "status": "sent",
        "id": 77,
    }
    answer = await stage.client("POST", SCHEDULES, body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["text"], made["message_parts"], made["status"]) == ("Hi Ana of Acme", 1, "pending")
    assert (made["phone"], made["recipient_name"], made["contact"]) == ("0491000001", "Ana Lee", ana["contact_id"])
    assert (made["template"], made["template_version"], made["name"]) == (template["id"], 1, "Reminder")
    assert made["scheduled_time"].endswith("Z")
    for name in ("parent", "group", "group_schedule_id", "sent_time", "delivered_time", "error", "provider"):
        assert made[name] is None
    assert made["created_by"] == made["updated_by"] == 1
    assert await stage.show(made["id"]) == made
    await stage.client.ok("PATCH", f"/api/templates/{template['id']}/", {"text": "new"})
    assert (await stage.show(made["id"]))["text"] == "Hi Ana of Acme"


async def test_a_schedule_of_another_organisation_is_not_found(stage: Stage) -> None:
    made = await stage.make_schedule()
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert (await stage.other(method, f"{SCHEDULES}{made['id']}/", made)).status_code == 404
    assert (await stage.other("POST", f"{SCHEDULES}{made['id']}/retry/")).status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"phone": None}, "contact"),
        ({"text": ""}, "text"),
        ({"text": None}, "text"),
        *(({"text": text}, "text") for text in ("\u200b", "\u2060", "\ufeff\u00ad", "\ufe0f", "\u200b \u200b")),
        ({"text": "{{x}}"}, "text"),
        ({"text": "Hi {{first_name}}"}, "text"),
        ({"text": "x" * 1531}, "text"),
        ({"phone": "0412"}, "phone"),
        ({"phone": "4.12E+08"}, "phone"),
        ({"scheduled_time": None}, "scheduled_time"),
        ({"scheduled_time": "2020-01-01T00:00:00Z"}, "scheduled_time"),
        ({"scheduled_time": in_367_days()}, "scheduled_time"),
        ({"scheduled_time": "9999-12-31T23:59:59"}, "scheduled_time"),
        ({"scheduled_time": "0001-01-01T00:00:00+14:00"}, "scheduled_time"),
        ({"scheduled_time": "soon"}, "scheduled_time"),
        ({"scheduled_time": 1900000000}, "scheduled_time"),
        ({"scheduled_time": "1900000000"}, "scheduled_time"),
        ({"format": "fax"}, "format"),
        ({"format": None}, "format"),
        ({"format": "mms"}, "media_url"),
        ({"format": "mms", "media_url": "ftp://x/y"}, "media_url"),
        ({"format": "mms", "media_url": "https://x/" + "y" * 2048}, "media_url"),
        ({"format": "mms", "media_url": "https://x/y", "text": "x" * 1601}, "text"),
        ({"name": "x" * 201}, "name"),
        ({"subject": "x" * 65}, "subject"),
        ({"template": 1, "template_id": 2}, "template_id"),
        ({"contact": 1, "contact_id": 2}, "contact_id"),
        ({"contact": "abc"}, "contact"),
        ({"contact": 1.5}, "contact"),
    ],
)
async def test_an_invalid_schedule_is_refused_under_its_field(stage: Stage, change: dict[str, Any], field: str) -> None:
    body = {"phone": "0491000999", "text": "x", "scheduled_time": soon(), **change}
    answer = await stage.client("POST", SCHEDULES, body)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == [field, "code", "request_id"]


@pytest.mark.parametrize(
    "change", [{"contact": 99}, {"contact": 2**70}, {"contact": 1}, {"template": 99}, {"template_id": 0}]
)
async def test_an_unknown_id_is_not_found(stage: Stage, change: dict[str, int]) -> None:
    stage.contacts.add("org_other")
    body = {"phone": "0491000999", "text": "x", "scheduled_time": soon()}
    assert (await stage.client("POST", SCHEDULES, {**body, **change})).status_code == 404


async def test_a_recipient_that_may_not_be_messaged_is_refused(stage: Stage) -> None:
    opted_out, deleted = stage.make_contact(opt_out=True), stage.make_contact(is_active=False)
    for body, field, code in (
        ({"contact": opted_out["contact_id"]}, "contact", "opted_out"),
        ({"phone": opted_out["phone"]}, "phone", "opted_out"),
        ({"contact": deleted["contact_id"]}, "contact", "invalid"),
    ):
        answer = await stage.client("POST", SCHEDULES, {"text": "x", "scheduled_time": soon(), **body})
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert answer.json()[field]


async def test_a_deleted_template_is_refused(stage: Stage) -> None:
    template = await stage.client.ok("POST", "/api/templates/", {"name": "t", "text": "x"})
    await stage.client("DELETE", f"/api/templates/{template['id']}/")
    body = {"phone": "0491000999", "template": template["id"], "scheduled_time": soon()}
    assert (await stage.client("POST", SCHEDULES, body)).json()["template"]


async def test_without_contacts_a_schedule_answers_503(stage: Stage) -> None:
    stage.contacts.unavailable = True
    body = {"phone": "0491000999", "text": "x", "scheduled_time": soon()}
    answer = await stage.client("POST", SCHEDULES, body)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_schedule_can_be_written_back_as_it_was_read(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana"})
    template = await stage.client.ok("POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}}"})
    for fields in (
        {"contact": ana["contact_id"], "template": template["id"]},
        {"contact": ana["contact_id"], "text": "Hi {{first_name}}"},
        {},
        {"format": "mms", "media_url": "https://example.com/a.png", "text": ""},
    ):
        made = await stage.make_schedule(**fields)
        await stage.client("DELETE", f"/api/templates/{template['id']}/")
        again = await stage.client.ok("PUT", f"{SCHEDULES}{made['id']}/", made)
        assert {**again, "updated_at": None} == {**made, "updated_at": None}


async def test_naming_the_contact_again_reads_it_again(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana"})
    made = await stage.make_schedule(contact=ana["contact_id"])
    stage.contacts.contacts[1].update(fields={"first_name": "Bea", "last_name": "Ng"}, version=2)
    changed = await stage.client.ok("PATCH", f"{SCHEDULES}{made['id']}/", {"contact": 1})
    assert changed["recipient_name"] == "Bea Ng"


async def test_omitted_fields_stay_and_a_field_that_wins_removes_the_other(stage: Stage) -> None:
    ana, bea = stage.make_contact({"first_name": "Ana"}), stage.make_contact({"first_name": "Bea"})
    template = await stage.client.ok("POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}}"})
    made = await stage.make_schedule(contact=ana["contact_id"], template=template["id"], name="n")
    url = f"{SCHEDULES}{made['id']}/"
    changed = await stage.client.ok("PATCH", url, {"contact": bea["contact_id"], "phone": "0400000000"})
    assert (changed["text"], changed["phone"], changed["template"]) == ("Hi Bea", "0491000002", template["id"])
    changed = await stage.client.ok("PATCH", url, {"text": "Yo {{first_name}}"})
    assert (changed["text"], changed["template"], changed["template_version"]) == ("Yo Bea", None, None)
    answer = await stage.client("PATCH", url, {"phone": "0400000000"})
    assert answer.json()["text"] == ["Placeholders need a contact to fill them."]
    changed = await stage.client.ok("PATCH", url, {"phone": "0400000000", "text": "Yo"})
    assert (changed["contact"], changed["phone"], changed["recipient_name"]) == (None, "0400000000", None)
    changed = await stage.client.ok("PATCH", url, {"name": None, "scheduled_time": "2026-12-24T09:00:00"})
    assert (changed["name"], changed["scheduled_time"]) == (None, "2026-12-23T22:30:00.000Z")
    for field in ("text", "scheduled_time", "format", "status"):
        assert (await stage.client("PATCH", url, {field: None})).json()[field]
    assert (await stage.client("PUT", url, {"text": "x", "phone": "0400000000"})).json()["scheduled_time"]


async def test_a_null_template_or_contact_removes_it(stage: Stage) -> None:
    ana = stage.make_contact()
    template = await stage.client.ok("POST", "/api/templates/", {"name": "t", "text": "Hello"})
    made = await stage.make_schedule(contact=ana["contact_id"], template=template["id"])
    url = f"{SCHEDULES}{made['id']}/"
    changed = await stage.client.ok("PATCH", url, {"template": None, "contact_id": None})
    assert (changed["template"], changed["text"], changed["contact"]) == (None, "Hello", None)
    assert changed["phone"] == made["phone"]


async def test_a_placeholder_in_a_name_does_not_keep_the_shown_text_from_being_written_back(stage: Stage) -> None:
    contact = stage.make_contact({"first_name": "{{nick}}"})
    made = await stage.make_schedule(contact=contact["contact_id"], text="Hi {{first_name}}")
    assert made["text"] == "Hi {{nick}}"
    url = f"{SCHEDULES}{made['id']}/"
    assert (await stage.client.ok("PUT", url, made))["text"] == "Hi {{nick}}"
    for method, body in (("PUT", {**made, "text": "Hello {{nick}}"}), ("PATCH", {"text": "Hello {{nick}}"})):
        answer = await stage.client(method, url, body)
        assert (answer.status_code, next(iter(answer.json()))) == (400, "text")
    assert (await stage.rows("SELECT text FROM schedules"))[0].text == "Hi {{first_name}}"


async def test_only_a_pending_schedule_can_be_cancelled(stage: Stage) -> None:
    made = await stage.make_schedule()
    url = f"{SCHEDULES}{made['id']}/"
    assert (await stage.client.ok("PATCH", url, {"status": "sent"}))["status"] == "pending"
    assert (await stage.client.ok("PATCH", url, {"status": "cancelled"}))["status"] == "cancelled"
    answer = await stage.client("DELETE", url)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Cannot update schedule that is not pending"
    assert answer.json()["code"] == "schedule_not_pending"
    assert (await stage.client("PATCH", url, {"name": "x"})).json()["code"] == "schedule_not_pending"
    second, third = await stage.make_schedule(), await stage.make_schedule()
    assert (await stage.client("DELETE", f"{SCHEDULES}{second['id']}/")).status_code == 204
    answer = await stage.client.ok("PATCH", f"{SCHEDULES}{third['id']}/?status_format=v1", {"status": "DELETED"})
    assert answer["status"] == "DELETED"


async def test_the_list_has_the_schedules_of_today_unless_it_is_filtered(stage: Stage) -> None:
    made = [await stage.make_schedule(name=str(n)) for n in range(4)]
    later = "UPDATE schedules SET scheduled_time = now() + interval '3 days' WHERE id = :id"
    await stage.rows("UPDATE schedules SET scheduled_time = now()")
    await stage.rows(later, id=made[3]["id"])
    await stage.rows("UPDATE schedules SET status = 'delivered' WHERE id = :id", id=made[1]["id"])
    await stage.client("DELETE", f"{SCHEDULES}{made[2]['id']}/")

    async def names(query: str) -> list[str]:
        return [s["name"] for s in (await stage.client.ok("GET", f"{SCHEDULES}?{query}"))["results"]]

    assert await names("") == ["1", "0"]
    assert await names("date=&status=") == ["1", "0"]
    assert await names("status=,") == await names("status=&status=") == ["1", "0"]
    assert await names("date_from=2020-01-01") == ["3", "1", "0"]
    assert await names("date_from=2020-01-01&limit=1&page=2") == ["1"]
    assert await names("date_to=2020-01-01") == []
    assert await names("status=cancelled,delivered") == ["2", "1"]
    assert await names("status=SENT&status_format=v1") == ["1"]
    assert await names("status=PENDING,DELETED&status_format=v1") == ["2", "0"]
    assert (await stage.client.ok("GET", f"{SCHEDULES}?status_format=v1"))["results"][0]["status"] == "SENT"
    assert (await stage.other.ok("GET", f"{SCHEDULES}?date_from=2020-01-01"))["pagination"]["total"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("date=today", "date"),
        ("date=20261201", "date"),
        ("date=2026-02-30", "date"),
        ("date=9999-12-31", "date"),
        ("date=0001-01-01", "date"),
        ("date=2026-12-01&date_from=2026-12-01", "date"),
        ("date_from=x", "date_from"),
        ("date_to=x", "date_to"),
        ("tz=Mars/Olympus", "tz"),
        ("status=lost", "status"),
        ("status=SENT", "status"),
        ("status_format=v9", "status_format"),
        ("page=0", "page"),
        ("limit=x", "limit"),
    ],
)
async def test_an_invalid_filter_is_refused_under_its_name(stage: Stage, query: str, field: str) -> None:
    answer = await stage.client("GET", f"{SCHEDULES}?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()[field]


async def test_the_list_of_a_contact_has_all_days_and_messages_of_batches(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    single, cancelled = await stage.make_schedule(contact=1), await stage.make_schedule(contact=1)
    await stage.client("DELETE", f"{SCHEDULES}{cancelled['id']}/")
    await stage.rows("UPDATE schedules SET scheduled_time = now() - interval '9 days' WHERE id = :id", id=single["id"])
    url = "/api/contacts/1/schedules/"
    page = await stage.client.ok("GET", url)
    [message, alone] = page["results"]
    assert (message["parent"], message["text"], message["name"]) == (batch["id"], "Hi First1", "June")
    assert alone["id"] == single["id"]
    assert page["pagination"]["total"] == 2
    await stage.client("DELETE", f"/api/group-schedules/{batch['id']}/")
    assert (await stage.client.ok("GET", url))["pagination"]["total"] == 1
    assert (await stage.other("GET", url)).status_code == 404
    assert (await stage.client("GET", "/api/contacts/99/schedules/")).status_code == 404
