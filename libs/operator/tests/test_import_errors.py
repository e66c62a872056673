"""An import that fails in the middle ends with the exit code of its error. The next run finds what was committed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from cooee.errors import ExitCode

from .conftest import Cooee, Sql
from .moving_in import change
from .v2_database import build

_MOVED = "SELECT old_id FROM scheduling.moved_rows WHERE kind = 'schedule' ORDER BY old_id"
_END_WAITING = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
# The error of a server that stops, while the usage is set.
_LOSE_SERVER = """
    CREATE FUNCTION delivery.lose_server() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the server stops' USING ERRCODE = '57P01'; END $$;
    CREATE TRIGGER lose_server BEFORE INSERT ON delivery.moved_usage EXECUTE FUNCTION delivery.lose_server();
"""


@pytest.fixture
async def v2(postgres_url: str) -> str:
    """Return the URL of a database of v2 with about 1,000 rows."""
    return await build(postgres_url, "v2_errors", contacts=200, singles=200, messages=20)


@pytest.fixture
async def administrator(postgres_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """Return a connection whose role may change the schemas of all services and end the connections of others."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def test_a_page_that_committed_before_an_earlier_one_failed_stays_and_is_found_by_the_next_run(
    cooee: Cooee, sql: Sql, v2: str, administrator: "asyncpg.Connection[Any]"
) -> None:
    waiting = administrator.transaction()
    await waiting.start()
    # The first page of messages waits for this transaction, because it may add the row.
    await administrator.execute(
        "INSERT INTO scheduling.moved_rows (kind, old_id, system, organisation_id, new_id, hash, is_compared)"
        " VALUES ('schedule', 1, 'v2', 'org_1', 1, '', true)"
    )
    running = asyncio.create_task(cooee("import-v2", "--source", v2, "--page-rows", "20"))
    try:
        async with asyncio.timeout(60):
            while not (committed := await sql("scheduling", _MOVED)):
                assert not running.done(), "it ended before a page failed"
                await asyncio.sleep(0.02)  # no event says that another process has committed rows
        assert await administrator.fetch(_END_WAITING)
        failed = await running
    finally:
        await waiting.rollback()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (failed.code, await sql("scheduling", _MOVED)) == (ExitCode.UNREACHABLE, committed)
    assert min(row.old_id for row in committed) > 20, "the second page only"
    done = await cooee("import-v2", "--source", v2, "--json")
    assert done.document["agrees"]
    assert (await cooee("import-v2", "--source", v2, "--json")).document["added"] == 0


async def test_a_lost_server_while_the_usage_is_set_is_unreachable(
    cooee: Cooee, v2: str, administrator: "asyncpg.Connection[Any]"
) -> None:
    await change(v2, "UPDATE app_schedule SET scheduled_time = now() WHERE id = 1")
    await administrator.execute(_LOSE_SERVER)
    try:
        done = await cooee("import-v2", "--source", v2)
    finally:
        await administrator.execute("DROP FUNCTION delivery.lose_server CASCADE")
    assert done.code == ExitCode.UNREACHABLE, done.err
    assert done.err.endswith("cooee: delivery's database: the server stops\n")
    again = await cooee("import-v2", "--source", v2, "--json")
    assert (again.document["agrees"], again.document["added"]) == (True, 0)
