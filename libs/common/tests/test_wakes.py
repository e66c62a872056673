"""Commits of one process wake the loops of another."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text

from common.database import Database, wake_after_commit
from common.statements import ORGANISATION_CTE, Statement

ADD = Statement(
    f"WITH {ORGANISATION_CTE} INSERT INTO notes (organisation_id, body) SELECT o.id, $2 FROM o RETURNING id",
    wakes="notes",
)


async def wait(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


@pytest.fixture
async def worker(sample_url: str, database: Database) -> AsyncIterator[Database]:
    """The database of another process, which listens."""
    other = Database(sample_url, "listening worker")
    for name in ("notes", "outbox"):
        other.wakes.event(name)
    stopping = asyncio.Event()
    task = asyncio.create_task(other.wakes.listen(stopping))
    yield other
    stopping.set()
    await task
    await other.close()


@pytest.fixture
async def listening(postgres_url: str, worker: Database) -> AsyncIterator[asyncpg.Connection]:
    admin = await asyncpg.connect(postgres_url)
    for name in ("notes", "outbox"):  # a listener that begins to listen sets all events
        await wait(worker.wakes.event(name))
        worker.wakes.event(name).clear()
    yield admin
    await admin.close()


@pytest.mark.usefixtures("listening")
async def test_a_committed_session_wakes_the_worker(database: Database, worker: Database) -> None:
    async with database.tenant("org_a") as session:
        wake_after_commit(session, "notes")
    await wait(worker.wakes.event("notes"))
    assert not worker.wakes.event("outbox").is_set()


@pytest.mark.usefixtures("listening")
async def test_a_rolled_back_session_wakes_nothing(database: Database, worker: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.tenant("org_a") as session:
            await session.execute(text("SELECT 1"))
            wake_after_commit(session, "notes")
            raise RuntimeError
    database.wakes.wake("outbox")
    await wait(worker.wakes.event("outbox"))
    assert not worker.wakes.event("notes").is_set()


@pytest.mark.usefixtures("listening")
async def test_a_statement_with_rows_wakes_the_worker(database: Database, worker: Database) -> None:
    await database.statements("org_a").fetch(ADD, "x")
    await wait(worker.wakes.event("notes"))


async def test_a_listener_reconnects_and_wakes_everything_it_may_have_missed(
    database: Database, worker: Database, listening: asyncpg.Connection
) -> None:
    await listening.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listening worker'"
    )
    await wait(worker.wakes.event("notes"))
    worker.wakes.event("outbox").clear()
    database.wakes.wake("outbox")
    await wait(worker.wakes.event("outbox"))
