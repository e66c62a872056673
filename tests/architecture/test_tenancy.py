"""Row-level security as the database has it after every migration: every tenant table has it, no role can bypass it."""

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from .conftest import SERVICES

STORES = SERVICES[:3]
# Tables that a tenant session may not read at all. A submission may have messages of several organisations, and a
# webhook event is stored before its organisation is known. What operators do, and why, is for operators.
HIDDEN = {
    *("outbox", "dead_letters", "retention_runs", "alembic_version", "submissions", "webhook_events"),
    *("operator_actions", "pauses"),
    "erasure_key",  # nobody but the owner reads it
}
# Tables from Clerk have policies of their own: a user may be a member of several organisations.
SHARED = {*HIDDEN, "users", "organisations"}


@pytest.fixture(scope="session")
def urls(service_url: Callable[[str], str]) -> dict[str, str]:
    return {service: service_url(service) for service in STORES}


async def connect(url: str, role: str) -> asyncpg.Connection:
    made = make_url(url)
    return await asyncpg.connect(made.set(username=f"{made.username}_{role}").render_as_string(hide_password=False))


async def tables(connection: asyncpg.Connection, service: str) -> list[Any]:
    return await connection.fetch(
        """
        SELECT c.relname AS name, c.relrowsecurity AS secured, c.relforcerowsecurity AS forced,
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organisation_id') AS tenant,
               (SELECT array_agg(r.rolname::text) FROM pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles)
                WHERE p.polrelid = c.oid) AS policies
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
        """,
        service,
    )


@pytest.mark.parametrize("service", STORES)
async def test_every_tenant_table_has_forced_row_level_security(urls: dict[str, str], service: str) -> None:
    connection = await connect(urls[service], "owner")
    try:
        for table in await tables(connection, service):
            where = f"{service}.{table['name']}"
            if table["name"] in SHARED:
                continue
            assert table["tenant"], f"{where} has no organisation_id: name it as shared, with a reason"
            assert table["secured"], where
            assert table["forced"], where
            assert set(table["policies"]) >= {f"{service}_tenant", f"{service}_all"}, where
    finally:
        await connection.close()


@pytest.mark.parametrize("service", STORES)
async def test_no_role_of_a_service_has_more_rights_than_it_needs(urls: dict[str, str], service: str) -> None:
    connection = await connect(urls[service], "owner")
    try:
        for role in await connection.fetch("SELECT * FROM pg_roles WHERE rolname LIKE $1", f"{service}\\_%"):
            for right in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication"):
                assert not role[right], (role["rolname"], right)
            for other in STORES:
                may = await connection.fetchval("SELECT has_schema_privilege($1, $2, 'USAGE')", role["rolname"], other)
                assert may == (other == service), (role["rolname"], other)
    finally:
        await connection.close()


@pytest.mark.parametrize("service", STORES)
async def test_a_tenant_session_sees_no_row_of_another_and_writes_none(urls: dict[str, str], service: str) -> None:
    """Read every tenant table as the tenant role, without an organisation and with an unknown one."""
    connection = await connect(urls[service], "tenant")
    try:
        for table in await tables(connection, service):
            if table["name"] in HIDDEN:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(f"SELECT * FROM {service}.{table['name']}")
            if table["name"] in SHARED:
                continue
            for organisation in (None, "", "org_of_nobody"):
                async with connection.transaction():
                    if organisation is not None:
                        await connection.execute("SELECT set_config('app.organisation_id', $1, true)", organisation)
                    name = f'{service}."{table["name"]}"'
                    assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0
                    plan = await connection.fetch(f"EXPLAIN SELECT * FROM {name}")
                    assert any("app.organisation_id" in row[0] for row in plan), f"{name} is read unfiltered"
    finally:
        await connection.close()
