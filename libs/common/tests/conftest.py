"""A sample service: a schema with one tenant table and the bus tables, created by the shared statements."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from sqlalchemy import make_url

from common.database import Database
from common.migrations import bus_tables, idempotency_table, protect, provision

SERVICE = "sample"


@pytest.fixture(scope="session")
def sample_url(postgres_url: str) -> str:
    url = make_url(postgres_url).set(username=SERVICE, password="sample-password").render_as_string(hide_password=False)

    async def make() -> None:
        await provision(postgres_url, url, SERVICE)
        await provision(postgres_url, url, SERVICE)  # a second time changes nothing
        owner = make_url(url).set(username=f"{SERVICE}_owner").render_as_string(hide_password=False)
        connection = await asyncpg.connect(owner)
        try:
            await connection.execute(
                "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                " organisation_id text NOT NULL, body text NOT NULL, version int NOT NULL DEFAULT 0)"
            )
            await connection.execute(protect("notes", SERVICE))
            await connection.execute(bus_tables(SERVICE))
            await connection.execute(idempotency_table(SERVICE))
        finally:
            await connection.close()

    asyncio.run(make())
    return url


@pytest.fixture
async def database(
    sample_url: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Database]:
    database = await open_database(sample_url, SERVICE)
    yield database
    await database.close()
