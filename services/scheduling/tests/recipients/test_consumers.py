"""Contact changes: pending schedules follow their contact."""

from common.retention import apply_rules
from scheduling.retention import RULES
from services.scheduling.tests.stage import Stage, soon


async def test_pending_schedules_follow_their_contact(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    ana = stage.contacts.contacts[1]
    single = await stage.make_schedule(contact=1, text="Hi {{first_name}}")
    without_contact = await stage.make_schedule(phone=ana["phone"])
    changed = {**ana, "version": 3, "fields": {"first_name": "Zoe", "last_name": "Ng"}, "phone": "+61491000777"}
    await stage.change_contacts(changed)
    await stage.change_contacts({**changed, "version": 2, "fields": {"first_name": "Old"}})
    theirs = {**changed, "version": 9, "fields": {"first_name": "Theirs"}}
    await stage.change_contacts(theirs, organisation="org_other")
    shown = await stage.show(single["id"])
    assert (shown["text"], shown["phone"], shown["recipient_name"]) == ("Hi Zoe", "0491000777", "Zoe Ng")
    messages = (await stage.show_batch(batch["id"]))["schedules"]
    assert [m["text"] for m in messages] == ["Hi Zoe", "Hi First2"]
    assert (await stage.show(without_contact["id"]))["phone"] == "0491000001"


async def test_a_schedule_with_its_own_phone_keeps_it(stage: Stage) -> None:
    ana = stage.make_contact()
    schedule_id = await stage.send(recipient="0491000999", contact_id=ana["contact_id"])
    await stage.consume(stage.failed(schedule_id, failure_category="blocked"))
    await stage.client.ok("POST", f"/api/schedules/{schedule_id}/retry/")
    await stage.change_contacts({**ana, "version": 2, "phone": "+61491000777"})
    assert (await stage.show(schedule_id))["phone"] == "0491000999"


async def test_an_opt_out_fails_and_a_deletion_cancels_pending_schedules(stage: Stage) -> None:
    batch = await stage.make_batch(3)
    first, second = stage.contacts.contacts[1], stage.contacts.contacts[2]
    opted_out, deleted = await stage.make_schedule(contact=1), await stage.make_schedule(contact=2)
    without_contact = await stage.make_schedule(phone=first["phone"])
    theirs = await stage.other.ok(
        "POST", "/api/schedules/", {"phone": first["phone"], "text": "x", "scheduled_time": soon()}
    )
    in_processing = await stage.send(recipient="0491000001", contact_id=1)
    await stage.change_contacts({**first, "version": 2, "opt_out": True}, {**second, "version": 2, "is_active": False})
    detail = await stage.show_batch(batch["id"])
    assert [(m["status"], m["failure_category"]) for m in detail["schedules"]] == [
        ("failed", "opted_out"),
        ("cancelled", None),
        ("pending", None),
    ]
    statuses = {row.id: row.status for row in await stage.rows("SELECT id, status FROM schedules")}
    assert [statuses[s["id"]] for s in (opted_out, deleted, without_contact)] == ["failed", "cancelled", "failed"]
    assert (statuses[theirs["id"]], statuses[in_processing]) == ("pending", "processing")
    assert (await stage.show(opted_out["id"]))["error"]


async def test_an_older_opt_out_fails_nothing(stage: Stage) -> None:
    ana = stage.make_contact()
    await stage.change_contacts({**ana, "version": 3})
    made = [await stage.make_schedule(contact=ana["contact_id"]), await stage.make_schedule(phone=ana["phone"])]
    await stage.change_contacts({**ana, "version": 2, "opt_out": True})
    for schedule in made:
        assert (await stage.show(schedule["id"]))["status"] == "pending"


async def test_changes_are_stored_for_a_day(stage: Stage) -> None:
    await stage.change_contacts({**stage.make_contact(), "version": 2}, {**stage.make_contact(), "version": 2})
    await stage.rows("UPDATE contact_changes SET received_at = now() - interval '25 hours' WHERE contact_id = 1")
    await apply_rules(stage.database, stage.settings, RULES)
    assert [row.contact_id for row in await stage.rows("SELECT contact_id FROM contact_changes")] == [2]
