"""Who a token names, and the members of an organisation."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event

SEEN = "2026-03-02T04:14:22Z"


@pytest.fixture
def gateway(database: Any, client_of: Any) -> Any:
    """The gateway, which asks across organisations."""
    return client_of("", issuer="gateway", role="system", user_id=None)


async def identify(gateway: Any, user: str, organisation: str, **more: Any) -> Any:
    body = {"clerk_user_id": user, "clerk_organisation_id": organisation, "role": "member", "first_seen_at": SEEN}
    return await gateway.call("POST", "/internal/identity/", json={**body, **more})


async def test_who_was_never_seen_is_made_once_however_many_ask(gateway: Any) -> None:
    answers = await asyncio.gather(*(identify(gateway, "user_1", "org_mine") for _ in range(10)))
    bodies = [answer.json() for answer in answers]
    assert all(answer.status_code == 200 for answer in answers)
    assert bodies[0]["organisation_id"] == "org_mine"
    assert all(body == bodies[0] for body in bodies)
    other = (await identify(gateway, "user_2", "org_mine")).json()
    again = (await identify(gateway, "user_1", "org_theirs")).json()
    assert other["user_id"] != bodies[0]["user_id"] == again["user_id"]


async def test_the_ordinary_case_is_one_statement(gateway: Any, app: Any) -> None:
    await identify(gateway, "user_1", "org_mine")
    statements: list[str] = []
    engine = app.state.database._all.sync_engine

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    await identify(gateway, "user_1", "org_mine")
    event.remove(engine, "before_cursor_execute", note)
    assert len(statements) == 1


async def test_a_member_sees_members_and_himself_with_the_organisation(gateway: Any, client_of: Any) -> None:
    me = (await identify(gateway, "user_1", "org_mine", role="org:admin", organisation_slug="mine")).json()["user_id"]
    other = (await identify(gateway, "user_2", "org_mine")).json()["user_id"]
    foreign = (await identify(gateway, "user_3", "org_theirs")).json()["user_id"]
    client = client_of("org_mine", user_id=me, role="admin", permissions=("org:messages:send",))
    listed = await client.get("/api/users/")
    assert [user["id"] for user in listed["results"]] == [me, other]
    assert listed["pagination"]["total"] == 2
    shown = await client.get(f"/api/users/{me}/")
    assert shown == {
        "id": me, "first_name": "", "last_name": "", "email": "", "clerk_id": "user_1", "role": "admin",
        "is_active": True, "created_at": shown["created_at"], "updated_at": shown["updated_at"],
    }  # fmt: skip
    assert await client.get("/api/users/me/") == {
        **shown,
        "organisation": {
            "clerk_org_id": "org_mine", "name": "", "slug": "mine", "role": "admin",
            "permissions": ["org:messages:send"],
        },
    }  # fmt: skip
    for path in (f"/api/users/{foreign}/", "/api/users/0/", "/api/users/x/"):
        assert (await client.call("GET", path)).status_code == 404
    for method in ("POST", "PATCH", "DELETE"):
        assert (await client.call(method, f"/api/users/{me}/", json={})).status_code == 405


async def test_a_contact_is_assigned_to_a_member_and_to_nobody_else(gateway: Any, client_of: Any) -> None:
    me = (await identify(gateway, "user_1", "org_mine")).json()["user_id"]
    foreign = (await identify(gateway, "user_3", "org_theirs")).json()["user_id"]
    client = client_of("org_mine", user_id=me)
    made = await client.contact("0491570006", user=me)
    assert (made["user"], made["created_by"]) == (me, me)
    path = f"/api/contacts/{made['id']}/"
    for unknown in (foreign, 999):
        await client.patch(path, {"user": unknown}, 404)
        await client.post("/api/contacts/", {"phone": "0491570110", "user": unknown}, 404)
    assert (await client.patch(path, {"first_name": "Ana"}))["user"] == me
    assert (await client.patch(path, {"user": None}))["user"] is None
