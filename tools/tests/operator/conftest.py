"""The commands over the databases of all three services."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from common.database import Database
from tools.operator.__main__ import run
from tools.operator.stack import Stack

SERVICES = ("contacts", "scheduling", "delivery")


@pytest.fixture(scope="session")
def urls(service_url: Callable[[str], str]) -> dict[str, str]:
    return {service: service_url(service) for service in SERVICES}


@pytest.fixture
async def databases(
    urls: dict[str, str], open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[dict[str, Database]]:
    """Service → its database, emptied."""
    opened = {service: await open_database(url, service) for service, url in urls.items()}
    yield opened
    for database in opened.values():
        await database.close()


@pytest.fixture
def sql(databases: dict[str, Database]) -> Callable[..., Awaitable[list[Any]]]:
    """`await sql("delivery", "INSERT …", name=value)`: what it returns, if it does."""

    async def execute(service: str, statement: str, **values: Any) -> list[Any]:
        async with databases[service].all_tenants() as session:
            result = await session.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    return execute


@pytest.fixture
def stack(urls: dict[str, str]) -> Stack:
    return Stack(
        {
            **{f"{service.upper()}_DATABASE_URL": url for service, url in urls.items()},
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "INTERNAL_TOKEN_SECRET": "test-secret-test-secret-test-secret-0",
            "MOBILE_MESSAGE_USERNAME": "user",
            "MOBILE_MESSAGE_PASSWORD": "password",
            "MOBILE_MESSAGE_SENDER": "Cooee",
        }
    )


@pytest.fixture
def operator(
    stack: Stack, databases: dict[str, Database], capsys: pytest.CaptureFixture[str]
) -> Callable[..., Awaitable[tuple[int, str]]]:
    """`await operator("stuck", …)`: the exit code, and what was printed."""

    async def command(*words: str, **environment: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await run(words, Stack({**stack.environment, **environment}))
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return command
