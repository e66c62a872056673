"""What belongs to another organisation does not exist: in every route, and for the database's own roles."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

TENANT_TABLES = ["contacts", "groups", "group_members", "memberships", "organisations", "opt_outs"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/contacts/{contact}/", None),
        ("PUT", "/api/contacts/{contact}/", {"phone": "0491570110"}),
        ("PATCH", "/api/contacts/{contact}/", {"first_name": "x"}),
        ("DELETE", "/api/contacts/{contact}/", None),
        ("GET", "/api/contacts/?exclude_group_id={group}", None),
        ("GET", "/api/groups/{group}/", None),
        ("PUT", "/api/groups/{group}/", {"name": "x"}),
        ("PATCH", "/api/groups/{group}/", {"name": "x"}),
        ("DELETE", "/api/groups/{group}/", None),
        ("POST", "/api/groups/{group}/members/", {"contact_ids": [1]}),
        ("DELETE", "/api/groups/{group}/members/", {"contact_ids": [1]}),
        ("POST", "/api/groups/", {"name": "x", "member_ids": ["{contact}"]}),
        ("GET", "/api/users/{user}/", None),
    ],
)
async def test_another_organisations_ids_are_not_found(
    mine: Any, theirs: Any, database: Any, client_of: Any, method: str, path: str, body: Any
) -> None:
    identity = {"clerk_user_id": "u", "clerk_organisation_id": "org_mine", "first_seen_at": "2026-01-01T00:00:00Z"}
    user = await client_of("", role="system").post("/internal/identity/", identity, 200)
    contact = await mine.contact("0491570006", first_name="Ana")
    group = await mine.group("A", contact["id"])
    ids = {"contact": contact["id"], "group": group["id"], "user": user["user_id"]}
    if body and "member_ids" in body:
        body = {**body, "member_ids": [contact["id"]]}
    answer = await theirs.call(method, path.format(**ids), json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await mine.get(f"/api/contacts/{contact['id']}/") == contact
    shown = await mine.get(f"/api/groups/{group['id']}/")
    assert (shown["name"], shown["is_active"], shown["member_count"]) == ("A", True, 1)
    for listed in ("/api/contacts/", "/api/groups/", "/api/users/", "/api/contacts/?search=ana"):
        assert (await theirs.get(listed))["pagination"]["total"] == 0


async def test_every_route_needs_a_token_of_the_gateway_with_an_organisation(app: Any, serve: Any, bearer: Any) -> None:
    http = serve(app)
    schema = (await http.get("/openapi.json")).json()
    for path, operations in schema["paths"].items():
        if path.startswith("/api/webhooks/"):
            continue
        for method in operations:
            place = path.format(contact_id=1, group_id=1, user_id=1)
            for headers, status in (
                ({}, 401),
                (bearer("contacts", "org_mine", issuer="scheduling"), 401),
                (bearer("delivery", "org_mine"), 401),
                (bearer("contacts", ""), 403),
            ):
                answer = await http.request(method, place, headers=headers)
                assert answer.status_code == status, (method, path)


@pytest.fixture
async def tenant(contacts_url: str, mine: Any) -> AsyncIterator[asyncpg.Connection]:
    """The tenant's own role, beside rows of org_mine in every table."""
    url = make_url(contacts_url)
    everything = await asyncpg.connect(url.set(username="contacts_all").render_as_string(hide_password=False))
    await everything.execute("INSERT INTO organisations (organisation_id) VALUES ('org_mine')")
    await everything.execute("INSERT INTO users (clerk_id) VALUES ('user_1')")
    await everything.execute("INSERT INTO memberships (organisation_id, user_id) SELECT 'org_mine', id FROM users")
    await everything.execute(
        "INSERT INTO opt_outs (organisation_id, phone, opted_out, changed_at, source, version)"
        " VALUES ('org_mine', '+61491570156', true, now(), 'reply', 1)"
    )
    await everything.close()
    contact = await mine.contact("0491570006", first_name="Ana", opt_out=True)
    await mine.group("A", contact["id"])
    connection = await asyncpg.connect(url.set(username="contacts_tenant").render_as_string(hide_password=False))
    yield connection
    await connection.close()


@pytest.mark.parametrize("organisation", [None, "", "org_theirs"])
async def test_the_tenants_role_sees_and_changes_nothing_of_others(
    tenant: asyncpg.Connection, organisation: str | None
) -> None:
    if organisation is not None:
        await tenant.execute("SELECT set_config('app.organisation_id', $1, false)", organisation)
    for table in (*TENANT_TABLES, "users"):
        assert await tenant.fetchval(f"SELECT count(*) FROM {table}") == 0
    for table in TENANT_TABLES:
        assert await tenant.execute(f"DELETE FROM {table}") == "DELETE 0"
        column = {"groups": "name", "contacts": "first_name", "opt_outs": "received_at"}.get(table, "created_at")
        if table != "group_members":
            assert await tenant.execute(f"UPDATE {table} SET {column} = {column}") == "UPDATE 0"
    if organisation is not None:
        assert await tenant.fetch("SELECT * FROM search_contacts(ARRAY['%ana%'])") == []
    added = "INSERT INTO contacts (organisation_id, phone) VALUES ('org_mine', '+61491570110')"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await tenant.execute(added)
    for forbidden in (
        "SELECT body FROM outbox",
        "SELECT * FROM dead_letters",
        "DELETE FROM outbox",
        "DELETE FROM users",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await tenant.execute(forbidden)


async def test_the_tenants_role_sees_its_own(tenant: asyncpg.Connection) -> None:
    await tenant.execute("SELECT set_config('app.organisation_id', 'org_mine', false)")
    for table in (*TENANT_TABLES, "users"):
        assert await tenant.fetchval(f"SELECT count(*) FROM {table}") == 1
    assert len(await tenant.fetch("SELECT * FROM search_contacts(ARRAY['%ana%'])")) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await tenant.execute("UPDATE contacts SET organisation_id = 'org_theirs'")


async def test_a_group_cannot_hold_another_organisations_contact(tenant: asyncpg.Connection, theirs: Any) -> None:
    foreign = await theirs.contact("0491570006")
    await tenant.execute("SELECT set_config('app.organisation_id', 'org_mine', false)")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await tenant.execute(
            "INSERT INTO group_members (group_id, contact_id) SELECT id, $1 FROM groups", foreign["id"]
        )
