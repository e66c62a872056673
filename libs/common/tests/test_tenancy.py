"""Row-level security: a session sees only its organisation's rows, whatever its statement says."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.database import Database

INSERT = text("INSERT INTO notes (organisation_id, body) VALUES (:organisation, :body)")


async def test_a_tenant_session_sees_only_its_organisation(database: Database) -> None:
    for organisation in ("org_a", "org_b"):
        async with database.tenant(organisation) as session:
            await session.execute(INSERT, {"organisation": organisation, "body": organisation})
    async with database.tenant("org_a") as session:
        assert (await session.scalars(text("SELECT body FROM notes"))).all() == ["org_a"]
        touched = await session.execute(text("UPDATE notes SET body = 'mine' WHERE organisation_id = 'org_b'"))
        assert touched.rowcount == 0  # type: ignore[attr-defined]
        assert (await session.execute(text("DELETE FROM notes WHERE body = 'org_b'"))).rowcount == 0  # type: ignore[attr-defined]
    async with database.all_tenants() as session:
        assert set(await session.scalars(text("SELECT body FROM notes"))) == {"org_a", "org_b"}


async def test_a_row_of_another_organisation_cannot_be_written(database: Database) -> None:
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.tenant("org_a") as session:
            await session.execute(INSERT, {"organisation": "org_b", "body": "x"})


async def test_a_session_without_an_organisation_sees_nothing(database: Database) -> None:
    async with database.tenant("org_a") as session:
        await session.execute(INSERT, {"organisation": "org_a", "body": "x"})
    async with database.tenant("") as session:
        assert (await session.scalars(text("SELECT body FROM notes"))).all() == []


async def test_the_organisation_does_not_outlive_its_transaction(database: Database) -> None:
    """A pooled connection that served one organisation shows nothing to the next."""
    for _ in range(30):
        async with database.tenant("org_a") as session:
            await session.execute(INSERT, {"organisation": "org_a", "body": "x"})
    async with database._tenant.connect() as connection:
        assert (await connection.scalar(text("SELECT count(*) FROM notes"))) == 0


@pytest.mark.parametrize("statement", ["SELECT * FROM dead_letters", "SELECT body FROM outbox", "DELETE FROM outbox"])
async def test_a_tenant_session_cannot_read_the_bus_tables(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant("org_a") as session:
            await session.execute(text(statement))


async def test_neither_role_can_change_the_schema(database: Database) -> None:
    for begin in (lambda: database.tenant("org_a"), database.all_tenants):
        with pytest.raises(DBAPIError, match="permission denied|must be owner"):
            async with begin() as session:
                await session.execute(text("CREATE TABLE sample.more (id int)"))


async def test_neither_role_compiles_plans(database: Database) -> None:
    for begin in (lambda: database.tenant("org_a"), database.all_tenants):
        async with begin() as session:
            assert await session.scalar(text("SHOW jit")) == "off"
