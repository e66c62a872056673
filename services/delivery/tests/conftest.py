"""Fixtures of delivery's tests: its database, its settings, a fake provider, and the stage that has all of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database
from delivery.app import create_app
from delivery.settings import Settings
from services.delivery.tests.fake_provider import FakeProvider
from services.delivery.tests.stage import Stage

SECRET = "test-secret-test-secret-test-secret-0"


@pytest.fixture(scope="session")
def delivery_url(service_url: Callable[[str], str]) -> str:
    """Return the URL of delivery's database, migrated."""
    return service_url("delivery")


@pytest.fixture
async def database(
    delivery_url: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Database]:
    """Open delivery's database, with empty tables."""
    opened = await open_database(delivery_url, "delivery")
    yield opened
    await opened.close()


@pytest.fixture
def make_settings(delivery_url: str) -> Callable[..., Settings]:
    """`make_settings(**changes)` returns settings that do not depend on the environment."""

    def make(**changes: Any) -> Settings:
        values = {
            "database_url": delivery_url,
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "internal_token_secret": SECRET,
            **changes,
        }
        return Settings(_env_file=None, **values)

    return make


@pytest.fixture
async def fake_provider() -> AsyncIterator[FakeProvider]:
    """Serve a fake provider on a free port of this machine."""
    fake = FakeProvider()
    await fake.start()
    yield fake
    fake.release.set()
    await fake.stop()


@pytest.fixture
async def stage(
    database: Database, organisation: str, fake_provider: FakeProvider, make_settings: Callable[..., Settings]
) -> AsyncIterator[Stage]:
    """Return the stage: database, fake provider, and the steps between them."""
    made = Stage(database, organisation, fake_provider, make_settings)
    yield made
    await made.close()


@pytest.fixture
async def client(
    database: Database, make_settings: Callable[..., Settings], serve: Callable[[Any], httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of delivery's application."""
    app = create_app(make_settings())
    async with serve(app) as client, app.router.lifespan_context(app):
        yield client


@pytest.fixture
def explain() -> Callable[..., Awaitable[list[tuple[str, str]]]]:
    """`await explain(session, run)` returns the statements that `run` executes, each with its plan."""

    async def collect(session: AsyncSession, run: Callable[[], Awaitable[None]]) -> list[tuple[str, str]]:
        connection = await session.connection()
        executed: list[tuple[str, Any]] = []

        def remember(_: Connection, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            executed.append((statement, parameters))

        event.listen(connection.sync_connection, "before_cursor_execute", remember)
        await run()
        event.remove(connection.sync_connection, "before_cursor_execute", remember)
        raw = (await connection.get_raw_connection()).driver_connection
        plans = [await raw.fetch("EXPLAIN " + statement, *parameters) for statement, parameters in executed]
        return [
            (statement, "\n".join(line[0] for line in plan))
            for (statement, _), plan in zip(executed, plans, strict=True)
        ]

    return collect


# Parts of the stage, for tests that need one of them.


@pytest.fixture
def rows(stage: Stage) -> Callable[..., Awaitable[list[Any]]]:
    return stage.rows


@pytest.fixture
def execute(stage: Stage) -> Callable[..., Awaitable[None]]:
    return stage.execute


@pytest.fixture
def set_config(stage: Stage) -> Callable[[str, str], Awaitable[None]]:
    return stage.set_config


@pytest.fixture
def assign(stage: Stage) -> Callable[..., Awaitable[None]]:
    return stage.assign
