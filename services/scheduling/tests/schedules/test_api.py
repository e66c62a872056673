from datetime import UTC, datetime, timedelta

import pytest

SCHEDULES = "/api/schedules/"


def later(**delta):
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


async def test_a_schedule_shows_what_will_be_sent(client, other, contacts, organisation, soon):
    ana = contacts.add(organisation, {"first_name": "Ana", "last_name": "Lee", "company": "Acme"})
    template = await client.ok("POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}} of {{company}}"})
    body = {
        "contact_id": ana["contact_id"],
        "phone": "0400000000",
        "template": template["id"],
        "text": "template wins",
        "name": "Reminder",
        "scheduled_time": soon,
        "status": "sent",
        "id": 77,
    }
    answer = await client("POST", SCHEDULES, body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["text"], made["message_parts"], made["status"]) == ("Hi Ana of Acme", 1, "pending")
    assert (made["phone"], made["recipient_name"], made["contact"]) == ("0491000001", "Ana Lee", ana["contact_id"])
    assert (made["template"], made["template_version"], made["name"]) == (template["id"], 1, "Reminder")
    assert made["scheduled_time"].endswith("Z")
    for name in ("parent", "group", "group_schedule_id", "sent_time", "delivered_time", "error", "provider"):
        assert made[name] is None
    assert made["created_by"] == made["updated_by"] == 1
    assert await client.ok("GET", f"{SCHEDULES}{made['id']}/") == made
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert (await other(method, f"{SCHEDULES}{made['id']}/", body)).status_code == 404
    assert (await other("POST", f"{SCHEDULES}{made['id']}/retry/")).status_code == 404
    await client.ok("PATCH", f"/api/templates/{template['id']}/", {"text": "new"})
    assert (await client.ok("GET", f"{SCHEDULES}{made['id']}/"))["text"] == "Hi Ana of Acme"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"phone": None}, "contact"),
        ({"text": ""}, "text"),
        ({"text": None}, "text"),
        ({"text": "{{x}}"}, "text"),
        ({"text": "Hi {{first_name}}"}, "text"),
        ({"text": "x" * 1531}, "text"),
        ({"phone": "0412"}, "phone"),
        ({"phone": "4.12E+08"}, "phone"),
        ({"scheduled_time": None}, "scheduled_time"),
        ({"scheduled_time": "2020-01-01T00:00:00Z"}, "scheduled_time"),
        ({"scheduled_time": later(days=367)}, "scheduled_time"),
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
async def test_what_cannot_be_scheduled_is_refused_under_its_field(client, soon, change, field):
    answer = await client("POST", SCHEDULES, {"phone": "0491000999", "text": "x", "scheduled_time": soon, **change})
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == [field, "code", "request_id"]


@pytest.mark.parametrize("change", [{"contact": 99}, {"contact": 2**70}, {"template": 99}, {"template_id": 0}])
async def test_an_id_that_does_not_exist_is_not_found(client, contacts, soon, change):
    contacts.add("org_other")
    body = {"phone": "0491000999", "text": "x", "scheduled_time": soon}
    assert (await client("POST", SCHEDULES, {**body, **change})).status_code == 404
    assert (await client("POST", SCHEDULES, {**body, "contact": 1})).status_code == 404


async def test_who_may_not_be_written_to_is_refused(client, contacts, organisation, soon):
    out = contacts.add(organisation, opt_out=True)
    gone = contacts.add(organisation, is_active=False)
    for body, field, code in (
        ({"contact": out["contact_id"]}, "contact", "opted_out"),
        ({"phone": out["phone"]}, "phone", "opted_out"),
        ({"contact": gone["contact_id"]}, "contact", "invalid"),
    ):
        answer = await client("POST", SCHEDULES, {"text": "x", "scheduled_time": soon, **body})
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert answer.json()[field]
    template = await client.ok("POST", "/api/templates/", {"name": "t", "text": "x"})
    await client("DELETE", f"/api/templates/{template['id']}/")
    answer = await client(
        "POST", SCHEDULES, {"phone": "0491000999", "template": template["id"], "scheduled_time": soon}
    )
    assert answer.json()["template"]


async def test_without_contacts_nothing_is_written(client, contacts, soon):
    contacts.unavailable = True
    answer = await client("POST", SCHEDULES, {"phone": "0491000999", "text": "x", "scheduled_time": soon})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_body_as_it_was_read_can_be_written_back(client, contacts, organisation, make_schedule):
    ana = contacts.add(organisation, {"first_name": "Ana"})
    template = await client.ok("POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}}"})
    for fields in (
        {"contact": ana["contact_id"], "template": template["id"]},
        {"contact": ana["contact_id"], "text": "Hi {{first_name}}"},
        {},
        {"format": "mms", "media_url": "https://example.com/a.png", "text": ""},
    ):
        made = await make_schedule(**fields)
        await client("DELETE", f"/api/templates/{template['id']}/")
        again = await client.ok("PUT", f"{SCHEDULES}{made['id']}/", made)
        assert {**again, "updated_at": None} == {**made, "updated_at": None}
    contacts.contacts[1].update(fields={"first_name": "Bea", "last_name": "Last1"}, version=2)
    assert (await client.ok("PATCH", f"{SCHEDULES}{made['id']}/", {"contact": 1}))["recipient_name"] == "Bea Last1"


async def test_what_is_left_out_stays_and_what_wins_takes_the_other_off(client, contacts, organisation, make_schedule):
    ana, bea = contacts.add(organisation, {"first_name": "Ana"}), contacts.add(organisation, {"first_name": "Bea"})
    template = await client.ok("POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}}"})
    made = await make_schedule(contact=ana["contact_id"], template=template["id"], name="n")
    url = f"{SCHEDULES}{made['id']}/"
    changed = await client.ok("PATCH", url, {"contact": bea["contact_id"], "phone": "0400000000"})
    assert (changed["text"], changed["phone"], changed["template"]) == ("Hi Bea", "0491000002", template["id"])
    changed = await client.ok("PATCH", url, {"text": "Yo {{first_name}}"})
    assert (changed["text"], changed["template"], changed["template_version"]) == ("Yo Bea", None, None)
    answer = await client("PATCH", url, {"phone": "0400000000"})
    assert answer.json()["text"] == ["Placeholders need a contact to fill them."]
    changed = await client.ok("PATCH", url, {"phone": "0400000000", "text": "Yo"})
    assert (changed["contact"], changed["phone"], changed["recipient_name"]) == (None, "0400000000", None)
    changed = await client.ok("PATCH", url, {"name": None, "scheduled_time": "2026-12-24T09:00:00"})
    assert (changed["name"], changed["scheduled_time"]) == (None, "2026-12-23T22:30:00.000Z")
    for field in ("text", "scheduled_time", "format", "status"):
        assert (await client("PATCH", url, {field: None})).json()[field]
    assert (await client("PUT", url, {"text": "x", "phone": "0400000000"})).json()["scheduled_time"]


async def test_cancelling_is_for_pending_ones(client, make_schedule):
    made = await make_schedule()
    url = f"{SCHEDULES}{made['id']}/"
    assert (await client.ok("PATCH", url, {"status": "sent"}))["status"] == "pending"
    assert (await client.ok("PATCH", url, {"status": "cancelled"}))["status"] == "cancelled"
    answer = await client("DELETE", url)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Cannot update schedule that is not pending"
    assert answer.json()["code"] == "schedule_not_pending"
    assert (await client("PATCH", url, {"name": "x"})).json()["code"] == "schedule_not_pending"
    other = await make_schedule()
    assert (await client("DELETE", f"{SCHEDULES}{other['id']}/")).status_code == 204
    third = await make_schedule()
    answer = await client.ok("PATCH", f"{SCHEDULES}{third['id']}/?status_format=v1", {"status": "DELETED"})
    assert answer["status"] == "DELETED"


async def test_the_list_is_of_today_unless_it_is_asked_otherwise(client, other, make_schedule, run_sql):
    made = [await make_schedule(name=str(n)) for n in range(4)]
    await run_sql("UPDATE schedules SET scheduled_time = now()")
    await run_sql("UPDATE schedules SET scheduled_time = now() + interval '3 days' WHERE id = :id", id=made[3]["id"])
    await run_sql("UPDATE schedules SET status = 'delivered' WHERE id = :id", id=made[1]["id"])
    await client("DELETE", f"{SCHEDULES}{made[2]['id']}/")

    async def names(query):
        return [s["name"] for s in (await client.ok("GET", f"{SCHEDULES}?{query}"))["results"]]

    assert await names("") == ["1", "0"]
    assert await names("date=&status=") == ["1", "0"]
    assert await names("date_from=2020-01-01") == ["3", "1", "0"]
    assert await names("date_from=2020-01-01&limit=1&page=2") == ["1"]
    assert await names("date_to=2020-01-01") == []
    assert await names("status=cancelled,delivered") == ["2", "1"]
    assert await names("status=SENT&status_format=v1") == ["1"]
    assert await names("status=PENDING,DELETED&status_format=v1") == ["2", "0"]
    assert (await client.ok("GET", f"{SCHEDULES}?status_format=v1"))["results"][0]["status"] == "SENT"
    assert (await other.ok("GET", f"{SCHEDULES}?date_from=2020-01-01"))["pagination"]["total"] == 0


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
async def test_an_unusable_filter_is_refused_under_its_name(client, query, field):
    answer = await client("GET", f"{SCHEDULES}?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()[field]


async def test_a_contacts_schedules_are_of_all_days_and_of_batches_too(
    client, other, contacts, organisation, make_schedule, make_batch, run_sql
):
    batch = await make_batch(2)
    single = await make_schedule(contact=1)
    gone = await make_schedule(contact=1)
    await client("DELETE", f"{SCHEDULES}{gone['id']}/")
    await run_sql("UPDATE schedules SET scheduled_time = now() - interval '9 days' WHERE id = :id", id=single["id"])
    page = await client.ok("GET", "/api/contacts/1/schedules/")
    [child, alone] = page["results"]
    assert (child["parent"], child["text"], child["name"]) == (batch["id"], "Hi First1", "June")
    assert alone["id"] == single["id"]
    assert page["pagination"]["total"] == 2
    await client("DELETE", f"/api/group-schedules/{batch['id']}/")
    assert (await client.ok("GET", "/api/contacts/1/schedules/"))["pagination"]["total"] == 1
    assert (await other("GET", "/api/contacts/1/schedules/")).status_code == 404
    assert (await client("GET", "/api/contacts/99/schedules/")).status_code == 404


async def test_only_what_failed_goes_again(client, make_schedule, dispatch, run_sql, database, outbox_events):
    made = await make_schedule()
    url = f"{SCHEDULES}{made['id']}/retry/"
    answer = await client("POST", url)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    fail = (
        "UPDATE schedules SET status='failed', failure_category=:category, error='No.', attempts=5, dispatch_number=1"
    )
    await run_sql(fail, category="outcome_unknown")
    assert (await client("POST", url)).status_code == 400
    assert (await client("POST", f"{url}?include_unknown=maybe")).json()["include_unknown"]
    answer = await client("POST", f"{url}?include_unknown=true")
    assert answer.status_code == 202
    again = answer.json()
    assert (again["status"], again["attempts"], again["error"], again["failure_category"]) == ("pending", 0, None, None)
    await dispatch()
    [event] = await outbox_events(database)
    assert (event.schedule_id, event.dispatch_number) == (made["id"], 2)
