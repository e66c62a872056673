"""The owner of a service's database, as CloudNativePG makes it, may do all that `migrate` does. It is no superuser."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from common.migrations import migrate, provision
from tools.embedded.postgres import EmbeddedPostgres

from .manifests import FOLDER, STORES, documents

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of its own: the roles of the services belong to the whole server."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as running:
        yield running


def initdb_of(service: str) -> dict[str, Any]:
    clusters = [one for one in documents(FOLDER / "base/databases.yaml") if one["kind"] == "Cluster"]
    (cluster,) = [one for one in clusters if one["metadata"]["name"] == f"{service}-db"]
    found: dict[str, Any] = cluster["spec"]["bootstrap"]["initdb"]
    return found


async def _bootstrap(url: str, database: str, owner: str, statements: list[str]) -> None:
    """Do what CloudNativePG does at the start of a cluster."""
    connection = await asyncpg.connect(url)
    try:
        for statement in [
            f"CREATE ROLE {owner} LOGIN PASSWORD 'secret'",
            f'CREATE DATABASE "{database}" OWNER {owner}',
            *statements,
        ]:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("service", STORES)
def test_the_owner_of_the_database_can_migrate(service: str, server: EmbeddedPostgres) -> None:
    initdb = initdb_of(service)
    database, owner = initdb["database"], initdb["owner"]
    # A server for each service in production; here a database and an owner for each.
    database, renamed = f"{database}_{service}", f"{owner}_{service}"
    statements = [one.replace(owner, renamed) for one in initdb["postInitSQL"]]
    asyncio.run(_bootstrap(server.url("postgres"), database, renamed, statements))
    admin = make_url(server.url(database)).set(username=renamed, password="secret")
    url = admin.set(username=service, password="a-password").render_as_string(hide_password=False)
    for _ in range(2):  # the second time changes nothing
        asyncio.run(provision(admin.render_as_string(hide_password=False), url, service))
        migrate(url, service)
    assert asyncio.run(_is_superuser(server.url("postgres"), renamed)) is False


async def _is_superuser(url: str, role: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        found: bool = await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = $1", role)
        return found
    finally:
        await connection.close()
