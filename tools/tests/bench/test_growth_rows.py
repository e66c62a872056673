"""The rows of a whole organisation, on the schema of the migrations."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from common.database import Database
from tools.bench.growth import paths
from tools.bench.growth_rows import COMMON, FREQUENT_PHONE, RARE, Filled, fill, vacuum
from tools.embedded.environment import STORES

CONTACTS, SCHEDULES = 300, 1000


@pytest.fixture(scope="session")
def urls(service_url: Callable[[str], str]) -> dict[str, str]:
    """Return service → the URL of its database."""
    return {service: service_url(service) for service in STORES}


@pytest.fixture
async def administrator(
    postgres_url: str, urls: dict[str, str], open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Any]:
    """Connect as the administrator, to the empty databases of all services. They are emptied again afterwards."""

    async def empty() -> None:
        for service, url in urls.items():
            await (await open_database(url, service)).close()

    await empty()
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()
    await empty()


async def test_organisation_has_as_many_rows_as_asked_for_and_right_counters(administrator: Any) -> None:
    filled = await fill(administrator, "org_a", contacts=CONTACTS, schedules=SCHEDULES)
    await fill(administrator, "org_b", contacts=100, schedules=100)
    await vacuum(administrator)

    async def count(source: str) -> int:
        found: int = await administrator.fetchval(f"SELECT count(*) FROM {source} AND organisation_id = 'org_a'")
        return found

    assert await count("contacts.contacts WHERE is_active") == CONTACTS
    assert await count(f"contacts.contacts WHERE lower(first_name) = '{RARE}'") == 5
    assert await count(f"contacts.contacts WHERE lower(last_name) LIKE '{COMMON}%'") == CONTACTS // 10
    assert await count("scheduling.schedules WHERE kind = 'single'") == SCHEDULES
    assert await count(f"scheduling.schedules WHERE batch_id = {filled.batch_id}") == CONTACTS
    assert await count("scheduling.schedules WHERE status IN ('pending', 'processing')") == 0
    assert await count("delivery.messages WHERE status IN ('delivered', 'failed')") == SCHEDULES
    assert await count(f"delivery.messages WHERE phone = '{FREQUENT_PHONE}'") == 100
    total = "SELECT sum(total) FROM {} WHERE organisation_id = 'org_a'"
    assert await administrator.fetchval(total.format("contacts.contact_counts")) == CONTACTS
    assert await administrator.fetchval(total.format("scheduling.schedule_counts")) == SCHEDULES


def test_middle_and_last_pages_are_those_of_the_size() -> None:
    found = paths(Filled(contacts=10_000, schedules=10_000, batch_id=7))
    assert found["contacts, middle page"] == "/api/contacts/?page=100"
    assert found["contacts, last page"] == "/api/contacts/?page=200"
    assert found["batch, middle page"] == "/api/group-schedules/7/?page=100"
    assert found["messages of a phone"] == "/api/messages/?phone=0442999999"
