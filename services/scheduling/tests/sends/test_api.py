from common.events import ScheduleDue


async def test_a_send_is_held_written_and_published_in_one_go(
    client, contacts, delivery, organisation, database, outbox_events, row_of
):
    ana = contacts.add(organisation, first_name="Ana", company="Acme")
    answer = await client(
        "POST",
        "/api/sms/send/",
        {
            "message": " Hi {{ first_name }} of {{company}} ",
            "recipient": "0491 000 001",
            "contact_id": ana["contact_id"],
        },
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["success"] is True
    assert body["status"] == "processing"
    [event] = await outbox_events(database)
    assert isinstance(event, ScheduleDue)
    assert (event.schedule_id, event.run, event.lane, event.parts) == (body["schedule_id"], 1, "single", 1)
    assert (event.text, event.phone, event.contact_id) == ("Hi Ana of Acme", "+61491000001", ana["contact_id"])
    assert event.request_id == answer.headers["X-Request-ID"]
    hold = delivery.holds[str(event.hold)]
    assert (hold["format"], hold["units"]) == ("sms", 1)
    row = await row_of(body["schedule_id"])
    assert (row.status, row.run, row.hold, row.organisation_id) == ("processing", 1, event.hold, organisation)
    shown = await client.ok("GET", f"/api/schedules/{body['schedule_id']}/")
    assert (shown["text"], shown["phone"], shown["recipient_name"]) == ("Hi Ana of Acme", "0491000001", "Ana Last1")
