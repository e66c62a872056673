"""Fixtures of the operator's commands: the databases of all three services, and the commands over them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from common.database import Database
from cooee.command import Group
from cooee.main import COMMANDS, run
from cooee.stack import STORES

CHANGING = {
    (one.name, command.name) if isinstance(one, Group) else (one.name,)
    for one in COMMANDS
    for command in (one.commands if isinstance(one, Group) else (one,))
    if command.changes
}


def _changes(arguments: Sequence[str]) -> bool:
    names = [argument for argument in arguments if not argument.startswith("-")]
    return "--reason" not in arguments and any(tuple(names[:length]) in CHANGING for length in (1, 2))


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on standard output. Nothing else may be there."""
        return json.loads(self.out)


Cooee = Callable[..., Awaitable[Result]]
Sql = Callable[..., Awaitable[list[Any]]]


@pytest.fixture(scope="session")
def urls(service_url: Callable[[str], str]) -> dict[str, str]:
    """Return service → the URL of its database."""
    return {service: service_url(service) for service in STORES}


@pytest.fixture
async def databases(
    urls: dict[str, str], open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[dict[str, Database]]:
    """Return service → its database, emptied."""
    opened = {service: await open_database(url, service) for service, url in urls.items()}
    yield opened
    for database in opened.values():
        await database.close()


@pytest.fixture
def sql(databases: dict[str, Database]) -> Sql:
    """`await sql("delivery", "INSERT …", name=value)` executes a statement and returns its rows, if it has some."""

    async def execute(service: str, statement: str, **values: Any) -> list[Any]:
        async with databases[service].all_tenants() as session:
            result = await session.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    return execute


@pytest.fixture
def cooee(
    urls: dict[str, str],
    databases: dict[str, Database],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cooee:
    """`await cooee("stuck", …, NAME="value")` runs a command with variables of the environment.

    A changing command gets a reason, unless `reason` is None.
    """
    environment = {
        "COOEE_HOME": str(tmp_path),  # not the stack that a developer runs
        **{f"{service.upper()}_DATABASE_URL": url for service, url in urls.items()},
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "INTERNAL_TOKEN_SECRET": "test-secret-test-secret-test-secret-0",
        "MOBILE_MESSAGE_USERNAME": "user",
        "MOBILE_MESSAGE_PASSWORD": "password",
        "MOBILE_MESSAGE_SENDER_ID": "Cooee",
    }

    async def command(*arguments: str, reason: str | None = "ticket 12", **variables: str) -> Result:
        if reason is not None and _changes(arguments):
            arguments = (*arguments, "--reason", reason)
        for name, value in (environment | variables).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = await run(arguments)
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return command
