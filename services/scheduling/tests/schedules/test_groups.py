"""A schedule may name a group. That is a note: its message goes to its one recipient."""

from dataclasses import dataclass

import pytest

from services.scheduling.tests.stage import Stage, soon


@dataclass
class Groups:
    """The ids of two groups of the organisation, of a deleted one, and of another organisation's group."""

    first: int
    second: int
    deleted: int
    theirs: int


@pytest.fixture
def groups(stage: Stage) -> Groups:
    """Add the groups, without members."""
    return Groups(
        first=stage.contacts.add_group(stage.organisation, []),
        second=stage.contacts.add_group(stage.organisation, []),
        deleted=stage.contacts.add_group(stage.organisation, [], is_active=False),
        theirs=stage.contacts.add_group("org_other", []),
    )


async def test_a_group_is_stored_and_shown_and_can_be_changed(stage: Stage, groups: Groups) -> None:
    first, second = groups.first, groups.second
    for body in ({"group": first}, {"group_id": first}, {"group": first, "group_id": first}):
        assert (await stage.make_schedule(**body))["group"] == first
    made = await stage.make_schedule(group_id=first)
    path = f"/api/schedules/{made['id']}/"
    assert (made["parent"], made["group_schedule_id"]) == (None, None)
    assert (await stage.client.ok("PATCH", path, {"text": "New"}))["group"] == first
    assert (await stage.client.ok("PATCH", path, {"group": second}))["group"] == second
    assert (await stage.client.ok("PUT", path, await stage.show(made["id"])))["group"] == second
    assert (await stage.client.ok("PATCH", path, {"group_id": None}))["group"] is None
    assert (await stage.client.ok("PUT", path, {**await stage.show(made["id"]), "group": first}))["group"] == first


async def test_a_schedule_with_a_group_sends_one_message(stage: Stage, groups: Groups) -> None:
    made = await stage.make_schedule(group_id=groups.first)
    await stage.make_due(made["id"])
    await stage.dispatch()
    [event] = await stage.dispatches()
    assert (event.schedule_id, event.phone) == (made["id"], "+61491000999")
    assert (event.lane, event.batch_id) == ("single", None)
    assert (await stage.client.ok("GET", "/api/group-schedules/"))["results"] == []


async def test_a_schedule_with_a_group_is_not_in_the_list_of_single_schedules(stage: Stage, groups: Groups) -> None:
    plain = await stage.make_schedule()
    await stage.make_schedule(group=groups.first)
    day = plain["scheduled_time"][:10]
    page = await stage.client.ok("GET", f"/api/schedules/?date_from={day}&tz=UTC")
    assert [s["id"] for s in page["results"]] == [plain["id"]]


@pytest.mark.parametrize("name", ["group", "group_id"])
async def test_an_unknown_group_is_not_found(stage: Stage, groups: Groups, name: str) -> None:
    made = await stage.make_schedule()
    body = {"phone": "0491000999", "text": "Hello", "scheduled_time": soon()}
    for group_id in (groups.theirs, 999, 2**70):
        for method, path in (("POST", ""), ("PUT", f"{made['id']}/"), ("PATCH", f"{made['id']}/")):
            answer = await stage.client(method, f"/api/schedules/{path}", {**body, name: group_id})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await stage.show(made["id"]))["group"] is None


async def test_a_deleted_group_is_refused_but_stays_on_its_schedules(stage: Stage, groups: Groups) -> None:
    made = await stage.make_schedule(group=groups.first)
    path = f"/api/schedules/{made['id']}/"
    stage.contacts.groups[groups.first]["is_active"] = False
    assert (await stage.client.ok("PUT", path, await stage.show(made["id"])))["group"] == groups.first
    create = {**made, "scheduled_time": soon(), "group": groups.deleted}
    refused = [
        await stage.client("PATCH", path, {"group_id": groups.deleted}),
        await stage.client("POST", "/api/schedules/", create),
        await stage.client("PATCH", path, {"group": groups.first, "group_id": groups.second}),
        await stage.client("PATCH", path, {"group": "mine"}),
    ]
    assert [(a.status_code, [k for k in a.json() if k.startswith("group")]) for a in refused] == [
        (400, ["group_id"]),
        (400, ["group_id"]),
        (400, ["group_id"]),
        (400, ["group"]),
    ]


async def test_a_message_of_a_batch_stays_in_its_group(stage: Stage, groups: Groups) -> None:
    batch = await stage.make_batch(2)
    message = batch["schedules"][0]
    path = f"/api/schedules/{message['id']}/"
    assert message["group"] == batch["group"]
    assert (await stage.client.ok("PUT", path, message))["group"] == batch["group"]
    for other in (groups.first, None):
        answer = await stage.client("PATCH", path, {"group": other})
        assert (answer.status_code, next(iter(answer.json()))) == (400, "group_id")


async def test_an_answer_begins_with_its_id_and_ends_with_its_audit_fields(stage: Stage) -> None:
    template = await stage.client.ok("POST", "/api/templates/", {"name": "t", "text": "x"})
    batch = await stage.make_batch(1)
    for shown in (await stage.make_schedule(), template, batch):
        names = [name for name in shown if name != "schedules"]
        assert names[0] == "id"
        assert names[-4:] == ["created_by", "updated_by", "created_at", "updated_at"]
