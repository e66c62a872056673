"""What belongs to another organisation does not exist: for every route, and for the database's own roles."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from .conftest import Stage

TENANT_TABLES = ["contacts", "groups", "group_members", "imports", "memberships", "organisations", "opt_outs"]


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
        ("GET", "/api/contacts/imports/{import}/", None),
        ("POST", "/api/contacts/import/?group_id={group}", "phone\n0491570110\n"),
    ],
)
async def test_id_of_another_organisation_answers_404_and_changes_nothing(
    stage: Stage, method: str, path: str, body: dict[str, Any] | str | None
) -> None:
    identity = {"clerk_user_id": "u", "clerk_organisation_id": "org_mine", "first_seen_at": "2026-01-01T00:00:00Z"}
    user = await stage.gateway.post("/internal/identity/", identity, 200)
    contact = await stage.mine.add_contact("0491570006", first_name="Ana")
    group = await stage.mine.add_group("A", contact["id"])
    await stage.mine.upload("phone\n")
    imported = (await stage.mine.get("/api/contacts/imports/"))["results"][0]
    ids = {"contact": contact["id"], "group": group["id"], "user": user["user_id"], "import": imported["id"]}
    if isinstance(body, dict) and "member_ids" in body:
        body = {**body, "member_ids": [contact["id"]]}
    sent = {"files": {"file": ("a.csv", body)}} if isinstance(body, str) else {"json": body}
    answer = await stage.theirs.call(method, path.format(**ids), **sent)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await stage.mine.get_contact(contact["id"]) == contact
    shown = await stage.mine.get_group(group["id"])
    assert (shown["name"], shown["is_active"], shown["member_count"]) == ("A", True, 1)
    for listed in (
        "/api/contacts/",
        "/api/groups/",
        "/api/users/",
        "/api/contacts/?search=ana",
        "/api/contacts/imports/",
    ):
        assert (await stage.theirs.get(listed))["pagination"]["total"] == 0


async def test_route_without_a_gateway_token_of_an_organisation_is_refused(stage: Stage) -> None:
    schema = (await stage.http.get("/openapi.json")).json()
    for path, operations in schema["paths"].items():
        if path.startswith("/api/webhooks/"):
            continue
        for method in operations:
            url = path.format(contact_id=1, group_id=1, user_id=1, import_id=1)
            for headers, status in (
                ({}, 401),
                (stage.client_of("org_mine", issuer="scheduling").headers, 401),
                (stage.client_of("", issuer="gateway").headers, 403),
            ):
                answer = await stage.http.request(method, url, headers=headers)
                assert answer.status_code == status, (method, path)


async def test_token_for_another_service_is_refused(stage: Stage, bearer: Any) -> None:
    for path in ("/api/contacts/", "/api/groups/", "/api/users/"):
        answer = await stage.http.get(path, headers=bearer("delivery", "org_mine"))
        assert answer.status_code == 401


@pytest.fixture
async def tenant(contacts_url: str, stage: Stage) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the tenant role, while org_mine has a row in every table."""
    await stage.run_sql("INSERT INTO organisations (organisation_id) VALUES ('org_mine')")
    await stage.run_sql("INSERT INTO users (clerk_id) VALUES ('user_1')")
    await stage.run_sql("INSERT INTO memberships (organisation_id, user_id) SELECT 'org_mine', id FROM users")
    await stage.run_sql(
        "INSERT INTO opt_outs (organisation_id, phone, opted_out, changed_at, source, version)"
        " VALUES ('org_mine', '+61491570156', true, now(), 'reply', 1)"
    )
    contact = await stage.mine.add_contact("0491570006", first_name="Ana", opt_out=True)
    await stage.mine.add_group("A", contact["id"])
    await stage.mine.upload("phone\n")
    url = make_url(contacts_url).set(username="contacts_tenant")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    yield connection
    await connection.close()


@pytest.mark.parametrize("organisation", [None, "", "org_theirs"])
async def test_tenant_role_of_another_organisation_reads_and_changes_no_row(
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
        assert await tenant.fetch("SELECT * FROM search_contacts('', ARRAY['%ana%'])") == []
    added = "INSERT INTO contacts (organisation_id, phone) VALUES ('org_mine', '+61491570110')"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await tenant.execute(added)
    for forbidden in (
        "SELECT body FROM outbox",
        "SELECT * FROM dead_letters",
        "DELETE FROM outbox",
        "DELETE FROM users",
        "SELECT clean_search_index()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await tenant.execute(forbidden)


async def test_tenant_role_of_the_organisation_reads_its_rows(tenant: asyncpg.Connection) -> None:
    await tenant.execute("SELECT set_config('app.organisation_id', 'org_mine', false)")
    for table in (*TENANT_TABLES, "users"):
        assert await tenant.fetchval(f"SELECT count(*) FROM {table}") == 1
    assert len(await tenant.fetch("SELECT * FROM search_contacts('', ARRAY['%ana%'])")) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await tenant.execute("UPDATE contacts SET organisation_id = 'org_theirs'")


async def test_contact_of_another_organisation_cannot_be_a_member(tenant: asyncpg.Connection, stage: Stage) -> None:
    foreign = await stage.theirs.add_contact("0491570006")
    await tenant.execute("SELECT set_config('app.organisation_id', 'org_mine', false)")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await tenant.execute(
            "INSERT INTO group_members (group_id, contact_id) SELECT id, $1 FROM groups", foreign["id"]
        )
