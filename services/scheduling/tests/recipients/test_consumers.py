from types import SimpleNamespace

import pytest

from common.events import ContactChanged, ContactState
from scheduling.recipients.consumers import on_contact_changed
from scheduling.recipients.loops import delete_old_changes


@pytest.fixture
def tell(database, organisation):
    async def send(*contacts, organisation_id=organisation):
        event = ContactChanged(
            organisation_id=organisation_id, contacts=tuple(ContactState.model_validate(c) for c in contacts)
        )
        record = SimpleNamespace(topic="t", partition=0, offset=0, key=b"k", value=event.model_dump_json().encode())
        await on_contact_changed(database, [record, record])

    return send


async def test_pending_schedules_follow_their_contact(client, contacts, organisation, make_schedule, make_batch, tell):
    batch = await make_batch(2)
    single = await make_schedule(contact=1, text="Hi {{first_name}}")
    bare = await make_schedule(phone=contacts.contacts[1]["phone"])
    changed = {
        **contacts.contacts[1],
        "version": 3,
        "fields": {"first_name": "Zoe", "last_name": "Last1"},
        "phone": "+61491000777",
    }
    await tell(changed)
    await tell({**changed, "version": 2, "fields": {"first_name": "Old"}})
    await tell({**changed, "version": 9, "fields": {"first_name": "Theirs"}}, organisation_id="org_other")
    shown = await client.ok("GET", f"/api/schedules/{single['id']}/")
    assert (shown["text"], shown["phone"], shown["recipient_name"]) == ("Hi Zoe", "0491000777", "Zoe Last1")
    children = (await client.ok("GET", f"/api/group-schedules/{batch['id']}/"))["schedules"]
    assert [c["text"] for c in children] == ["Hi Zoe", "Hi First2"]
    assert (await client.ok("GET", f"/api/schedules/{bare['id']}/"))["phone"] == "0491000001"


async def test_an_opt_out_fails_and_a_deletion_cancels_what_is_pending(
    client, other, contacts, organisation, make_schedule, make_batch, tell, run_sql, soon
):
    batch = await make_batch(3)
    out, gone = await make_schedule(contact=1), await make_schedule(contact=2)
    bare = await make_schedule(phone=contacts.contacts[1]["phone"])
    theirs = await other.ok(
        "POST", "/api/schedules/", {"phone": contacts.contacts[1]["phone"], "text": "x", "scheduled_time": soon}
    )
    sent = await client.ok("POST", "/api/sms/send/", {"message": "x", "recipient": "0491000001", "contact_id": 1})
    await tell(
        {**contacts.contacts[1], "version": 2, "opt_out": True},
        {**contacts.contacts[2], "version": 2, "is_active": False},
    )
    detail = await client.ok("GET", f"/api/group-schedules/{batch['id']}/")
    assert [(c["status"], c["failure_category"]) for c in detail["schedules"]] == [
        ("failed", "opted_out"),
        ("cancelled", None),
        ("pending", None),
    ]
    states = {s.id: s.status for s in await run_sql("SELECT id, status FROM schedules")}
    assert [states[s["id"]] for s in (out, gone, bare, theirs)] == ["failed", "cancelled", "failed", "pending"]
    assert states[sent["schedule_id"]] == "processing"
    shown = await client.ok("GET", f"/api/schedules/{out['id']}/")
    assert shown["error"]


async def test_a_stale_opt_out_fails_nothing(client, contacts, organisation, make_schedule, tell):
    ana = contacts.add(organisation)
    await tell({**ana, "version": 3})
    made = [await make_schedule(contact=ana["contact_id"]), await make_schedule(phone=ana["phone"])]
    await tell({**ana, "version": 2, "opt_out": True})
    for schedule in made:
        assert (await client.ok("GET", f"/api/schedules/{schedule['id']}/"))["status"] == "pending"


async def test_changes_are_kept_for_a_day(contacts, organisation, tell, database, run_sql):
    await tell({**contacts.add(organisation), "version": 2}, {**contacts.add(organisation), "version": 2})
    await run_sql("UPDATE contact_changes SET received_at = now() - interval '25 hours' WHERE contact_id = 1")
    await delete_old_changes(database)
    assert [row.contact_id for row in await run_sql("SELECT contact_id FROM contact_changes")] == [2]
