import pytest

from common.events import MessageFailed, MessageSent
from scheduling.batches.loops import finish_batches, fan_out_batches
from scheduling.outcomes.service import apply_outcomes

BATCHES = "/api/group-schedules/"


async def test_a_batch_shows_its_text_as_written(client, other, make_batch):
    batch = await make_batch(2, text="{{first_name}} " + "x" * 159, format="sms")
    assert (batch["text"], batch["message_parts"]) == ("{{first_name}} " + "x" * 159, 1)
    assert (batch["contact"], batch["phone"], batch["group_name"]) == (None, None, "Group 1")
    child = batch["schedules"][0]
    assert (child["text"], child["message_parts"]) == ("First1 " + "x" * 159, 2)
    assert (child["parent"], child["group_schedule_id"], child["name"]) == (batch["id"], batch["id"], "June")
    assert child["group"] == batch["group"]
    assert (await client("GET", f"/api/schedules/{batch['id']}/")).status_code == 404
    assert (await client("GET", f"{BATCHES}{child['id']}/")).status_code == 404
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = await other(method, f"{BATCHES}{batch['id']}/", {**batch, "group_id": 1})
        assert answer.status_code == 404
    assert (await other("POST", f"{BATCHES}{batch['id']}/retry/")).status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"name": None}, 400, "name"),
        ({"name": " "}, 400, "name"),
        ({"text": ""}, 400, "text"),
        ({"text": "x" * 1531}, 400, "text"),
        ({"group_id": None}, 400, "group_id"),
        ({"group": 7}, 400, "group_id"),
        ({"group_id": 99}, 404, "detail"),
        ({"template_id": 99}, 404, "detail"),
        ({"scheduled_time": "2020-01-01"}, 400, "scheduled_time"),
        ({"format": "mms"}, 400, "media_url"),
    ],
)
async def test_what_is_no_batch_is_refused(client, make_group, soon, change, status, field):
    body = {"name": "n", "group_id": make_group(1), "text": "x", "scheduled_time": soon, **change}
    answer = await client("POST", BATCHES, body)
    assert answer.status_code == status, answer.text
    assert answer.json()[field]


async def test_a_group_without_anybody_and_a_deleted_group(client, contacts, organisation, soon):
    nobody = contacts.add_group(organisation, [contacts.add(organisation, opt_out=True)["contact_id"]])
    deleted = contacts.add_group(organisation, [contacts.add(organisation)["contact_id"]], is_active=False)
    body = {"name": "n", "text": "x", "scheduled_time": soon}
    answer = await client("POST", BATCHES, {**body, "group_id": nobody})
    assert (answer.status_code, answer.json()["code"]) == (400, "no_recipients")
    assert answer.json()["detail"]
    assert (await client("POST", BATCHES, {**body, "group_id": deleted})).json()["group_id"]


async def test_batches_are_listed_on_all_days(client, other, make_batch, run_sql):
    first, second = await make_batch(1), await make_batch(2)
    await run_sql(
        "UPDATE schedules SET scheduled_time = scheduled_time - interval '9 days' WHERE id = :id", id=first["id"]
    )
    page = await client.ok("GET", BATCHES)
    assert [(b["id"], b["child_count"]) for b in page["results"]] == [(second["id"], 2), (first["id"], 1)]
    assert "schedules" not in page["results"][0]
    assert [b["id"] for b in (await client.ok("GET", f"{BATCHES}?group_id=1"))["results"]] == [first["id"]]
    assert (await client.ok("GET", f"{BATCHES}?group_id=&date="))["pagination"]["total"] == 2
    assert (await client("GET", f"{BATCHES}?group_id=x")).json()["group_id"]
    assert (await client("GET", f"{BATCHES}?group_id=99")).status_code == 404
    assert (await other("GET", f"{BATCHES}?group_id=1")).status_code == 404
    assert (await other.ok("GET", BATCHES))["pagination"]["total"] == 0
    day = second["scheduled_time"][:10]
    assert [b["id"] for b in (await client.ok("GET", f"{BATCHES}?date={day}&tz=UTC"))["results"]] == [second["id"]]
    await client("DELETE", f"{BATCHES}{second['id']}/")
    assert (await client.ok("GET", BATCHES))["pagination"]["total"] == 1


async def test_a_change_goes_on_to_pending_children_only(
    client, make_batch, make_due, dispatch, database, outbox_events
):
    batch = await make_batch(3)
    first, second, _ = batch["schedules"]
    own = await client.ok(
        "PATCH", f"/api/schedules/{first['id']}/", {"text": "Own", "scheduled_time": "2026-12-24T09:00"}
    )
    assert (own["text"], own["template"]) == ("Own", None)
    assert (await client("DELETE", f"/api/schedules/{second['id']}/")).status_code == 204
    url = f"{BATCHES}{batch['id']}/"
    changed = await client.ok(
        "PATCH", url, {"text": "New {{first_name}}", "name": "July", "scheduled_time": "2026-12-25T09:00"}
    )
    assert (changed["text"], changed["name"], changed["updated_by"]) == ("New {{first_name}}", "July", 1)
    children = (await client.ok("GET", url))["schedules"]
    assert [c["text"] for c in children] == ["New First1", "New First2", "New First3"]
    assert {c["scheduled_time"] for c in children} == {changed["scheduled_time"]}
    assert [c["status"] for c in children] == ["pending", "cancelled", "pending"]
    assert (await client.ok("PUT", url, changed))["text"] == "New {{first_name}}"
    assert (await client("PATCH", url, {"group_id": 5})).json()["group_id"]
    assert (await client("PATCH", url, {"name": None})).json()["name"]
    assert (await client("PUT", url, {"name": "x", "text": "x", "scheduled_time": "2026-12-25"})).json()["group_id"]
    await make_due()
    await dispatch()
    assert sorted(event.text for event in await outbox_events(database)) == ["New First1", "New First3"]
    answer = await client("PATCH", url, {"text": "late"})
    assert (answer.status_code, answer.json()["code"]) == (400, "schedule_not_pending")


async def test_a_child_may_go_before_its_batch(client, make_batch, make_due, dispatch, database, outbox_events):
    batch = await make_batch(3)
    child = batch["schedules"][0]
    await client.ok("PATCH", f"/api/schedules/{child['id']}/", {"scheduled_time": "2026-12-24T09:00"})
    await make_due(child["id"])
    async with database.all_tenants() as session:
        from sqlalchemy import text

        await session.execute(text("UPDATE schedules SET next_due_at = now() WHERE id = :id"), {"id": batch["id"]})
    await dispatch()
    assert [event.text for event in await outbox_events(database)] == ["Hi First1"]
    await client.ok("PATCH", f"{BATCHES}{batch['id']}/", {"text": "New"})
    children = (await client.ok("GET", f"{BATCHES}{batch['id']}/"))["schedules"]
    assert [c["text"] for c in children] == ["Hi First1", "New", "New"]


async def test_a_contact_has_one_message_of_a_batch(client, make_batch, contacts, organisation):
    batch = await make_batch(2)
    url = f"/api/schedules/{batch['schedules'][0]['id']}/"
    assert (await client("PATCH", url, {"contact": 2})).json()["contact"]
    third = contacts.add(organisation)
    assert (await client.ok("PATCH", url, {"contact": third["contact_id"]}))["text"] == "Hi First3"


async def outcomes(database, events):
    async with database.all_tenants() as session:
        await apply_outcomes(session, events)


def sent(due, version=1, **changes):
    values = {"organisation_id": due.organisation_id, "message_id": due.schedule_id, "schedule_id": due.schedule_id}
    values |= {
        "dispatch_number": due.dispatch_number,
        "version": version,
        "attempts": 1,
        "provider": "log",
        "sent_time": due.occurred_at,
    }
    return MessageSent(**{**values, **changes})


def failed(due, version=1, failure_category="invalid_number", **changes):
    values = {"organisation_id": due.organisation_id, "message_id": due.schedule_id, "schedule_id": due.schedule_id}
    values |= {
        "dispatch_number": due.dispatch_number,
        "version": version,
        "attempts": 1,
        "failure_category": failure_category,
        "error": "No.",
    }
    return MessageFailed(**{**values, **changes})


async def test_a_batch_ends_when_no_message_is_open_and_goes_again(
    client, make_batch, make_due, dispatch, database, outbox_events, run_sql
):
    batch = await make_batch(4)
    url = f"{BATCHES}{batch['id']}/"
    await make_due()
    await dispatch()
    one, two, three, four = await outbox_events(database)
    await outcomes(database, [failed(one), failed(two), failed(three, failure_category="outcome_unknown")])
    await finish_batches(database)
    assert (await client.ok("GET", url))["status"] == "processing"
    await outcomes(database, [failed(four)])
    await finish_batches(database)
    ended = await client.ok("GET", url)
    assert ended["status"] == "failed"
    assert ended["error"]
    assert ended["failure_category"]
    answer = await client("POST", f"{url}retry/")
    assert (answer.status_code, answer.json()) == (202, {"retried": 3})
    assert (await client.ok("GET", url))["status"] == "processing"
    await run_sql("DELETE FROM outbox")
    await dispatch()
    again = await outbox_events(database)
    assert {(event.schedule_id, event.dispatch_number) for event in again} == {
        (e.schedule_id, 2) for e in (one, two, four)
    }
    # outcomes of the first run, late: they change nothing
    await outcomes(database, [sent(one, version=9), failed(two, version=9)])
    await finish_batches(database)
    assert (await client.ok("GET", url))["status"] == "processing"
    await outcomes(database, [failed(event) for event in again])
    await finish_batches(database)
    assert (await client.ok("GET", url))["status"] == "failed"
    # what may have arrived did arrive: the end is worked out again
    await outcomes(database, [sent(three, version=2)])
    await finish_batches(database)
    assert (await client.ok("GET", url))["status"] == "sent"
    assert (await client.ok("POST", f"{url}retry/?include_unknown=true"))["retried"] == 3


async def test_the_rest_of_a_running_batch_can_be_cancelled_and_its_failures_retried(
    client, make_batch, make_due, dispatch, database, outbox_events, run_sql
):
    batch = await make_batch(10)
    url = f"{BATCHES}{batch['id']}/"
    await make_due()
    await dispatch(bulk_window=4)
    first, *rest = await outbox_events(database)
    assert (await client("DELETE", url)).status_code == 204
    await outcomes(database, [failed(first), *map(sent, rest)])
    await finish_batches(database)
    detail = await client.ok("GET", f"{url}?status_format=v1")
    assert detail["counts"] == {"PENDING": 0, "SENT": 3, "FAILED": 1, "DELETED": 6}
    assert detail["status"] == "DELETED"
    answer = await client("DELETE", url)
    assert (answer.status_code, answer.json()["code"]) == (400, "schedule_not_pending")
    pending = detail["schedules"][9]
    assert (await client("PATCH", f"/api/schedules/{pending['id']}/", {"text": "x"})).status_code == 400
    await client.ok("POST", f"/api/schedules/{first.schedule_id}/retry/")
    await run_sql("DELETE FROM outbox")
    await dispatch()
    [again] = await outbox_events(database)
    assert (again.schedule_id, again.dispatch_number) == (first.schedule_id, 2)
    await outcomes(database, [sent(again)])
    await finish_batches(database)
    detail = await client.ok("GET", url)
    assert (detail["status"], detail["counts"]["sent"], detail["counts"]["cancelled"]) == ("sent", 4, 6)


async def test_members_as_they_are_when_a_page_is_read(
    client, contacts, organisation, services, make_batch, database, make_due, dispatch, outbox_events, run_sql
):
    batch = await make_batch(130)
    assert (await run_sql("SELECT count(*) AS n FROM schedules"))[0].n == 51
    contacts.contacts[100]["opt_out"] = True
    contacts.groups[1]["members"].remove(110)
    contacts.unavailable = True
    with pytest.raises(Exception, match="contacts"):
        await fan_out_batches(database, services)
    assert not await fan_out_batches(database, services), "under lease"
    await run_sql("UPDATE schedules SET fan_out_lease_until = now() WHERE kind = 'batch'")
    contacts.unavailable = False
    while await fan_out_batches(database, services):
        pass
    detail = await client.ok("GET", f"{BATCHES}{batch['id']}/")
    assert (detail["child_count"], detail["counts"]["pending"]) == (128, 128)
    await make_due()
    await dispatch()
    assert len(await outbox_events(database)) == 128


async def test_a_batch_cancelled_while_it_expands_expands_no_further(client, services, make_batch, database, run_sql):
    batch = await make_batch(80)
    assert (await client("DELETE", f"{BATCHES}{batch['id']}/")).status_code == 204
    assert not await fan_out_batches(database, services)
    detail = await client.ok("GET", f"{BATCHES}{batch['id']}/")
    assert (detail["child_count"], detail["counts"]["cancelled"]) == (80, 80)


async def test_a_batch_whose_messages_were_all_cancelled_is_cancelled(client, make_batch, make_due, dispatch, database):
    batch = await make_batch(2)
    for child in batch["schedules"]:
        await client("DELETE", f"/api/schedules/{child['id']}/")
    await make_due()
    await dispatch()
    await finish_batches(database)
    assert (await client.ok("GET", f"{BATCHES}{batch['id']}/"))["status"] == "cancelled"


async def test_delivery_asks_which_holds_are_known(client, delivery, bearer, make_group):
    await client.ok("POST", "/api/sms/send-to-group/", {"message": "x", "group_id": make_group(1)})
    await client.ok("POST", "/api/sms/send/", {"message": "x", "recipient": "0491000999"})
    stranger = "0e9f2f0a-3d5c-4c1b-9d3e-3a3a3a3a3a3a"
    known = [call[1].split("/")[3] for call in delivery.calls if call[0] == "PUT"]
    headers = bearer("scheduling", "", role="system", issuer="delivery", user_id=None)
    answer = await client.http.post(
        "/internal/reservations/known/", json={"references": [*known, stranger]}, headers=headers
    )
    assert sorted(answer.json()["known"]) == sorted(known)
    assert len(known) == 2
    assert (await client("POST", "/internal/reservations/known/", {"references": []})).status_code == 401
