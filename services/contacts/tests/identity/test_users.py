"""Identities that the gateway resolves, and the members of an organisation."""

import asyncio
from typing import Any

import httpx
from sqlalchemy import event

from ..conftest import Stage

SEEN = "2026-03-02T04:14:22Z"


async def resolve(stage: Stage, user: str, organisation: str, **more: Any) -> httpx.Response:
    body = {"clerk_user_id": user, "clerk_organisation_id": organisation, "role": "member", "first_seen_at": SEEN}
    return await stage.gateway.call("POST", "/internal/identity/", json={**body, **more})


async def user_id_of(stage: Stage, user: str, organisation: str, **more: Any) -> int:
    user_id: int = (await resolve(stage, user, organisation, **more)).json()["user_id"]
    return user_id


async def test_simultaneous_first_requests_of_a_user_create_one_user(stage: Stage) -> None:
    answers = await asyncio.gather(*(resolve(stage, "user_1", "org_mine") for _ in range(10)))
    bodies = [answer.json() for answer in answers]
    assert all(answer.status_code == 200 for answer in answers)
    assert bodies[0]["organisation_id"] == "org_mine"
    assert all(body == bodies[0] for body in bodies)
    other = await user_id_of(stage, "user_2", "org_mine")
    again = await user_id_of(stage, "user_1", "org_theirs")
    assert other != bodies[0]["user_id"] == again


async def test_known_identity_is_resolved_with_one_statement(stage: Stage) -> None:
    await resolve(stage, "user_1", "org_mine")
    statements: list[str] = []
    engine = stage.app.state.database._all.sync_engine

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    await resolve(stage, "user_1", "org_mine")
    event.remove(engine, "before_cursor_execute", record)
    assert len(statements) == 1


async def test_member_reads_the_members_and_himself_with_the_organisation(stage: Stage) -> None:
    me = await user_id_of(stage, "user_1", "org_mine", role="org:admin", organisation_slug="mine")
    other = await user_id_of(stage, "user_2", "org_mine")
    client = stage.client_of("org_mine", user_id=me, role="admin", permissions=("org:messages:send",))
    listed = await client.get("/api/users/")
    assert [user["id"] for user in listed["results"]] == [me, other]
    assert listed["pagination"]["total"] == 2
    shown = await client.get(f"/api/users/{me}/")
    assert shown == {
        "id": me,
        "first_name": "",
        "last_name": "",
        "email": "",
        "clerk_id": "user_1",
        "role": "admin",
        "is_active": True,
        "created_at": shown["created_at"],
        "updated_at": shown["updated_at"],
    }
    organisation = {"clerk_org_id": "org_mine", "name": "", "slug": "mine"}
    assert await client.get("/api/users/me/") == {
        **shown,
        "organisation": {**organisation, "role": "admin", "permissions": ["org:messages:send"]},
    }


async def test_users_of_others_answer_404_and_changing_a_user_405(stage: Stage) -> None:
    me = await user_id_of(stage, "user_1", "org_mine")
    foreign = await user_id_of(stage, "user_3", "org_theirs")
    client = stage.client_of("org_mine", user_id=me)
    for path in (f"/api/users/{foreign}/", "/api/users/0/", "/api/users/x/"):
        assert (await client.call("GET", path)).status_code == 404
    for method in ("POST", "PATCH", "DELETE"):
        assert (await client.call(method, f"/api/users/{me}/", json={})).status_code == 405
    assert (await stage.client_of("org_mine", user_id=None).call("GET", "/api/users/me/")).status_code == 404


async def test_contact_is_assigned_to_members_only(stage: Stage) -> None:
    me = await user_id_of(stage, "user_1", "org_mine")
    foreign = await user_id_of(stage, "user_3", "org_theirs")
    client = stage.client_of("org_mine", user_id=me)
    contact = await client.add_contact("0491570006", user=me)
    assert (contact["user"], contact["created_by"]) == (me, me)
    path = f"/api/contacts/{contact['id']}/"
    for unknown in (foreign, 999):
        await client.patch(path, {"user": unknown}, 404)
        await client.post("/api/contacts/", {"phone": "0491570110", "user": unknown}, 404)
    assert (await client.patch(path, {"first_name": "Ana"}))["user"] == me
    assert (await client.patch(path, {"user": None}))["user"] is None
