"""A schedule may name a group. That is a note: its message goes to its one recipient."""

import pytest

from common.events import ScheduleDue


@pytest.fixture
def groups(contacts, organisation):
    """Two groups of mine, a deleted one, and somebody else's."""
    mine = [contacts.add_group(organisation, []) for _ in range(2)]
    return [*mine, contacts.add_group(organisation, [], is_active=False), contacts.add_group("org_other", [])]


async def test_a_group_is_kept_and_shown_and_one_message_goes(
    client, groups, make_schedule, make_due, dispatch, outbox_events, database
):
    first, second, *_ = groups
    for body in ({"group": first}, {"group_id": first}, {"group": first, "group_id": first}):
        assert (await make_schedule(**body))["group"] == first
    made = await make_schedule(group_id=first)
    path = f"/api/schedules/{made['id']}/"
    assert (made["parent"], made["group_schedule_id"]) == (None, None)
    assert (await client.ok("PATCH", path, {"text": "New"}))["group"] == first
    assert (await client.ok("PATCH", path, {"group": second}))["group"] == second
    assert (await client.ok("PUT", path, await client.ok("GET", path)))["group"] == second
    assert (await client.ok("PATCH", path, {"group_id": None}))["group"] is None
    assert (await client.ok("PUT", path, {**await client.ok("GET", path), "group": first}))["group"] == first
    await make_due(made["id"])
    await dispatch()
    [event] = [e for e in await outbox_events(database) if isinstance(e, ScheduleDue)]
    assert (event.schedule_id, event.phone, event.lane, event.batch_id) == (
        made["id"],
        "+61491000999",
        "single",
        None,
    )
    assert (await client.ok("GET", "/api/group-schedules/"))["results"] == []


async def test_what_names_a_group_is_not_listed_among_individual_ones(client, groups, make_schedule):
    plain = await make_schedule()
    await make_schedule(group=groups[0])
    day = plain["scheduled_time"][:10]
    listed = await client.ok("GET", f"/api/schedules/?date_from={day}&tz=UTC")
    assert [s["id"] for s in listed["results"]] == [plain["id"]]


@pytest.mark.parametrize("name", ["group", "group_id"])
async def test_a_group_that_is_not_there_is_not_found(client, groups, make_schedule, soon, name):
    made = await make_schedule()
    body = {"phone": "0491000999", "text": "Hello", "scheduled_time": soon}
    for group_id in (groups[3], 999, 2**70):
        for method, path in (("POST", ""), ("PUT", f"{made['id']}/"), ("PATCH", f"{made['id']}/")):
            answer = await client(method, f"/api/schedules/{path}", {**body, name: group_id})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await client.ok("GET", f"/api/schedules/{made['id']}/"))["group"] is None


async def test_a_deleted_group_is_refused_but_stays_where_it_was(client, contacts, groups, make_schedule, soon):
    first, second, deleted, _ = groups
    made = await make_schedule(group=first)
    path = f"/api/schedules/{made['id']}/"
    contacts.groups[first]["is_active"] = False
    assert (await client.ok("PUT", path, await client.ok("GET", path)))["group"] == first
    refused = [
        await client("PATCH", path, {"group_id": deleted}),
        await client("POST", "/api/schedules/", {**made, "scheduled_time": soon, "group": deleted}),
        await client("PATCH", path, {"group": first, "group_id": second}),
        await client("PATCH", path, {"group": "mine"}),
    ]
    assert [(a.status_code, [k for k in a.json() if k.startswith("group")]) for a in refused] == [
        (400, ["group_id"]),
        (400, ["group_id"]),
        (400, ["group_id"]),
        (400, ["group"]),
    ]


async def test_a_message_of_a_batch_stays_in_its_group(client, groups, make_batch):
    batch = await make_batch(2)
    child = batch["schedules"][0]
    path = f"/api/schedules/{child['id']}/"
    assert child["group"] == batch["group"]
    assert (await client.ok("PUT", path, child))["group"] == batch["group"]
    for other in (groups[0], None):
        answer = await client("PATCH", path, {"group": other})
        assert (answer.status_code, next(iter(answer.json()))) == (400, "group_id")


async def test_an_answer_begins_with_its_id_and_ends_with_who_wrote_it(client, make_schedule, make_batch):
    template = await client.ok("POST", "/api/templates/", {"name": "t", "text": "x"})
    batch = await make_batch(1)
    for shown in (await make_schedule(), template, batch):
        names = [name for name in shown if name != "schedules"]
        assert names[0] == "id"
        assert names[-4:] == ["created_by", "updated_by", "created_at", "updated_at"]
