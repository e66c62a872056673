"""Fixtures of all tests: a real PostgreSQL with each service's roles and migrations, and a real Kafka broker.

Both are embedded by default. TEST_DATABASE_URL and TEST_KAFKA_BOOTSTRAP_SERVERS run the same tests against others.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import hypothesis
import pytest
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller, sign
from common.database import Database
from common.events import TOPICS
from common.migrations import migrate, provision

SECRET = "test-secret-test-secret-test-secret-0"
PASSWORD = "test-password"


def pytest_configure() -> None:
    """Log without colours and without local variables, and let Hypothesis time nothing.

    Rendering all local variables takes seconds per traceback.
    """
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level, renderer])
    # By default an example that takes more than 200 ms fails, which happens on a busy machine.
    hypothesis.settings.register_profile("cooee", deadline=None)
    hypothesis.settings.load_profile("cooee")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of plans and those that use a broker: they also run on the servers in containers."""
    for item in items:
        if item.path.name == "test_plans.py" or "kafka_servers" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.containers)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Create a database for this test process and return the administrator's URL of it."""
    name = f"cooee_test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        asyncio.run(_create_database(given, name))
        yield make_url(given).set(database=name).render_as_string(hide_password=False)
        return
    from tools.embedded.postgres import EmbeddedPostgres  # noqa: PLC0415

    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        asyncio.run(_create_database(server.url("postgres"), name))
        yield server.url(name)


async def _create_database(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def service_url(postgres_url: str) -> Callable[[str], str]:
    """`service_url("contacts")` migrates that service's schema, once, and returns the URL for its settings."""
    urls: dict[str, str] = {}

    def get(service: str) -> str:
        if service not in urls:
            url = make_url(postgres_url).set(username=service, password=PASSWORD)
            urls[service] = url.render_as_string(hide_password=False)
            asyncio.run(provision(postgres_url, urls[service], service))
            migrate(urls[service], service)
        return urls[service]

    return get


@pytest.fixture(scope="module")
def kafka_servers() -> Iterator[str]:
    """Start a broker with all topics. The topics are empty, so no module reads the events of another."""
    given = os.environ.get("TEST_KAFKA_BOOTSTRAP_SERVERS")
    if given:
        asyncio.run(_empty_topics(given))
        yield given
        return
    from tools.embedded.broker import EmbeddedBroker  # noqa: PLC0415

    with EmbeddedBroker(list(TOPICS)) as broker:
        yield broker.bootstrap_servers


async def _empty_topics(servers: str) -> None:
    consumer = AIOKafkaConsumer(*TOPICS, bootstrap_servers=servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await consumer.start()
    await admin.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        records = {partition: RecordsToDelete(before_offset=end) for partition, end in ends.items() if end}
        if records:
            await admin.delete_records(records)
    finally:
        await admin.close()
        await consumer.stop()


@pytest.fixture(scope="session")
def open_database() -> Callable[[str, str], Awaitable[Database]]:
    """`await open_database(url, service)` empties the tables of the service and returns its Database.

    The erasure key stays, because only a migration creates it.
    """

    async def open_empty(url: str, service: str) -> Database:
        database = Database(url, f"{service} test", tenant_pool=20, all_pool=20)
        await empty(url, service)
        return database

    return open_empty


_FILLED = """
    SELECT CAST(oid::regclass AS text) AS name FROM pg_class
    WHERE relnamespace = CAST($1 AS regnamespace) AND relkind = 'r'
      AND relname NOT IN ('alembic_version', 'erasure_key')
      AND pg_relation_size(oid) > 0
"""
# A table whose rows nobody may change refuses TRUNCATE, too. Only a change of the schema can switch that off.
_REFUSING = """
    SELECT CAST(tgrelid::regclass AS text) AS name, quote_ident(tgname) AS trigger FROM pg_trigger
    JOIN pg_class c ON c.oid = tgrelid
    WHERE relnamespace = CAST($1 AS regnamespace) AND tgtype & 32 > 0 AND pg_relation_size(c.oid) > 0
"""
_RESTART_SEQUENCES = """
    SELECT setval(seqrelid, seqstart, false) FROM pg_sequence JOIN pg_class ON oid = seqrelid
    WHERE relnamespace = CAST($1 AS regnamespace)
"""


async def empty(url: str, service: str) -> None:
    """Truncate the service's tables and restart its sequences, as the owner of the schema.

    TRUNCATE replaces the files of a table and of its indexes, so tables that are empty already are left out.
    """
    owner = make_url(url).set(username=f"{service}_owner").render_as_string(hide_password=False)
    connection = await asyncpg.connect(owner)
    try:
        tables = await connection.fetch(_FILLED, service)
        refusing = [
            f"ALTER TABLE {row['name']} {{}} TRIGGER {row['trigger']};"
            for row in await connection.fetch(_REFUSING, service)
        ]
        if tables:
            statements = [one.format("DISABLE") for one in refusing]
            statements += [f"TRUNCATE {', '.join(row['name'] for row in tables)} CASCADE;"]
            statements += [one.format("ENABLE") for one in refusing]
            await connection.execute(" ".join(statements))
        await connection.execute(_RESTART_SEQUENCES, service)
    finally:
        await connection.close()


@pytest.fixture
def organisation() -> str:
    """Return the id of a new organisation."""
    return f"org_{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def bearer() -> Callable[..., dict[str, str]]:
    """`bearer("contacts", organisation, user_id=1, role="admin")` returns headers with an internal token."""

    def make(
        audience: str,
        organisation_id: str,
        *,
        user_id: int | None = 1,
        role: str = "member",
        issuer: str = "gateway",
        permissions: tuple[str, ...] = (),
    ) -> dict[str, str]:
        caller = Caller(organisation_id=organisation_id, user_id=user_id, role=role, permissions=permissions)
        return {"Authorization": "Bearer " + sign(caller, issuer=issuer, audience=audience, secret=SECRET)}

    return make


@pytest.fixture(scope="session")
def serve() -> Callable[[Any], httpx.AsyncClient]:
    """`serve(app)` returns a client of an ASGI application in this process. No socket is opened."""

    def make(app: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://service")

    return make


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Return the folder of the checkout."""
    return Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[Any]]:
    """`await eventually(check)` polls until `check()` is truthy and returns it. It fails after `within` seconds."""

    async def poll(check: Callable[[], Awaitable[Any]], within: float = 20.0) -> Any:
        deadline = asyncio.get_running_loop().time() + within
        while True:
            found = await check()
            if found:
                return found
            if asyncio.get_running_loop().time() > deadline:
                pytest.fail(f"not within {within} s: {check}")
            await asyncio.sleep(0.05)

    return poll


@pytest.fixture
async def outbox_events() -> Callable[[Database], Awaitable[list[Any]]]:
    """`await outbox_events(database)` returns the decoded events of the outbox, in order."""

    async def read(database: Database) -> list[Any]:
        async with database.all_tenants() as session:
            rows = (await session.execute(text("SELECT topic, body FROM outbox ORDER BY id"))).all()
        return [TOPICS[row.topic].model_validate_json(row.body) for row in rows]

    return read


@pytest.fixture
def kept_plan() -> Callable[..., Awaitable[list[str]]]:
    """`await kept_plan(session, run, fill)` returns the generic plan of the last statement of `run`, after `fill`.

    PostgreSQL makes the plan before `fill` adds rows, so it is the plan that a connection keeps from an empty table.
    """

    async def explain(
        session: AsyncSession, run: Callable[[], Awaitable[Any]], fill: Callable[[], Awaitable[Any]]
    ) -> list[str]:
        executed: list[tuple[str, Sequence[Any]]] = []

        def remember(_: Any, __: Any, statement: str, parameters: Sequence[Any], *___: Any) -> None:
            executed.append((statement, parameters))

        connection = await session.connection()
        event.listen(connection.sync_connection, "before_cursor_execute", remember)
        await run()
        event.remove(connection.sync_connection, "before_cursor_execute", remember)
        statement, values = executed[-1]
        raw: Any = (await connection.get_raw_connection()).driver_connection
        await raw.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await raw.execute(f"PREPARE kept AS {statement}")
        execute = f"EXECUTE kept ({', '.join(_literal(value) for value in values)})"
        await raw.fetch(f"EXPLAIN {execute}")
        await fill()
        lines = [line[0] for line in await raw.fetch(f"EXPLAIN {execute}")]
        await raw.execute("DEALLOCATE kept")
        return lines

    return explain


def _literal(value: Any) -> str:
    """Return a value as SQL."""
    if isinstance(value, bool | int | float):
        return str(value)
    listed = isinstance(value, list | tuple)
    plain = f"{{{','.join(json.dumps(str(one)) for one in value)}}}" if listed else str(value)
    return "'" + plain.replace("'", "''") + "'"
