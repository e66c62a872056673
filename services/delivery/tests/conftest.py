"""Delivery under test: its database, a carrier that misbehaves on demand, and what runs between them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from common.database import Database
from common.events import ScheduleDue
from delivery.messages import service
from delivery.messages.rules import Policy
from delivery.settings import Settings

SECRET = "test-secret-test-secret-test-secret-0"
DEADLINE_S = 86_400.0
_schedules = count(1)


@pytest.fixture(scope="session")
def delivery_url(service_url: Callable[[str], str]) -> str:
    return service_url("delivery")


@pytest.fixture
async def database(
    delivery_url: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Database]:
    opened = await open_database(delivery_url, "delivery")
    yield opened
    await opened.close()


@pytest.fixture
def make_settings(delivery_url: str) -> Callable[..., Settings]:
    """`make_settings(**changes)`: settings without an environment."""

    def make(**changes: Any) -> Settings:
        given = {
            "database_url": delivery_url,
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "internal_token_secret": SECRET,
            "mobile_message_username": "user",
            "mobile_message_password": "password",
            "mobile_message_sender": "Cooee",
        }
        return Settings(_env_file=None, **(given | changes))

    return make


@pytest.fixture
def policy() -> Policy:
    """Patient enough that nothing comes due by itself in a test: rows are made due by moving their times."""
    return Policy(lease_s=300, max_attempts=3, retry_base_s=600, replay_after_s=600, replay_window_s=43_200)


@pytest.fixture
def due(organisation: str) -> Callable[..., ScheduleDue]:
    """`due(**changes)`: a ScheduleDue of a new schedule."""

    def make(**changes: Any) -> ScheduleDue:
        schedule_id = changes.get("schedule_id", next(_schedules))
        given: dict[str, Any] = {
            "organisation_id": organisation,
            "schedule_id": schedule_id,
            "run": 1,
            "phone": "+61453000001",
            "text": "Hi Ana",
            "format": "sms",
            "parts": 1,
            "scheduled_time": datetime.now(UTC),
            "lane": "single",
        }
        merged = given | changes
        return ScheduleDue(event_id=ScheduleDue.id_of(schedule_id, merged["run"]), **merged)

    return make


@pytest.fixture
def take_in(database: Database) -> Callable[..., Awaitable[None]]:
    """`await take_in(event, …)`: one committed batch of the intake."""

    async def take(*events: ScheduleDue) -> None:
        async with database.all_tenants() as session:
            await service.take_in(session, events, DEADLINE_S)

    return take


@pytest.fixture
def rows(database: Database) -> Callable[..., Awaitable[list[Any]]]:
    """`await rows("SELECT …", name=value)`: what the database says."""

    async def read(statement: str, **parameters: Any) -> list[Any]:
        async with database.all_tenants() as session:
            return list((await session.execute(text(statement), parameters)).all())

    return read


@pytest.fixture
def execute(database: Database) -> Callable[..., Awaitable[None]]:
    """`await execute("UPDATE …", name=value)`: moves times, or sets up what a test stands on."""

    async def run(statement: str, **parameters: Any) -> None:
        async with database.all_tenants() as session:
            await session.execute(text(statement), parameters)

    return run


@pytest.fixture
def statuses(rows: Callable[..., Awaitable[list[Any]]]) -> Callable[[], Awaitable[list[str]]]:
    """`await statuses()`: the messages' statuses by schedule."""

    async def read() -> list[str]:
        return [row.status for row in await rows("SELECT status FROM messages ORDER BY schedule_id, run")]

    return read


@pytest.fixture
def limit(execute: Callable[..., Awaitable[None]], organisation: str) -> Callable[[str, str], Awaitable[None]]:
    """`await limit("sms_limit", "3")`: a config of the organisation."""

    async def put(name: str, value: str) -> None:
        await execute(
            "INSERT INTO configs (organisation_id, name, value) VALUES (:o, :n, :v)"
            " ON CONFLICT (organisation_id, name) DO UPDATE SET value = EXCLUDED.value",
            o=organisation,
            n=name,
            v=value,
        )

    return put


def hold_id(number: int) -> UUID:
    return UUID(int=number)
