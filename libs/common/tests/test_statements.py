"""Single statements that set their organisation: no path lets one organisation see another's rows."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError

from common.database import Database, is_transient, role_url
from common.errors import Unavailable
from common.pool import ConnectionPool
from common.statements import ORGANISATION, ORGANISATION_CTE, Statement

BODIES = Statement(
    f"""
    SELECT n.body FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT body FROM notes WHERE organisation_id = o.id ORDER BY id) n
    """
)
# As BODIES, but it forgets to name the organisation: row-level security alone must decide.
ALL_BODIES = Statement(f"SELECT n.body FROM {ORGANISATION} CROSS JOIN LATERAL (SELECT body FROM notes OFFSET 0) n")
SLEEP = Statement(f"SELECT pg_sleep($2) FROM {ORGANISATION}")
FAIL = Statement(f"SELECT 1 / (length(o.id) - length(o.id)) FROM {ORGANISATION}")
ADD = Statement(
    f"""
    WITH {ORGANISATION_CTE}
    INSERT INTO notes (organisation_id, body) SELECT coalesce($3, o.id), $2 FROM o RETURNING id
    """
)
PLAIN = "SELECT body FROM notes"


@pytest.fixture
async def pool(sample_url: str, database: Database) -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool(role_url(sample_url, "tenant"), "statements test", 2)
    yield pool
    await pool.close()


@pytest.fixture
async def notes(database: Database) -> None:
    for organisation in ("org_a", "org_b"):
        async with database.tenant(organisation) as session:
            await session.execute(
                text("INSERT INTO notes (organisation_id, body) VALUES (:organisation, :body)"),
                {"organisation": organisation, "body": f"note of {organisation}"},
            )


async def bodies(pool: ConnectionPool, organisation: str, statement: Statement = BODIES) -> list[str]:
    return [row["body"] for row in await pool.fetch(statement.sql, organisation)]


async def test_a_statement_without_an_organisation_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="organisation"):
        Statement("SELECT body FROM notes")


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize("statement", [BODIES, ALL_BODIES])
async def test_a_statement_reads_the_rows_of_its_organisation_only(pool: ConnectionPool, statement: Statement) -> None:
    for organisation in ("org_a", "org_b") * 5:
        assert await bodies(pool, organisation, statement) == [f"note of {organisation}"]
    assert await bodies(pool, "org_of_nobody", statement) == []
    assert await bodies(pool, "", statement) == []


@pytest.mark.usefixtures("notes")
async def test_nothing_stays_on_the_connection_after_a_statement(pool: ConnectionPool) -> None:
    await bodies(pool, "org_a")
    assert await pool.fetch(PLAIN) == []


@pytest.mark.usefixtures("notes")
async def test_nothing_stays_on_the_connection_after_an_error(pool: ConnectionPool) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await pool.fetch(FAIL.sql, "org_a")
    assert await pool.fetch(PLAIN) == []
    assert await bodies(pool, "org_b") == ["note of org_b"]


@pytest.mark.usefixtures("notes")
async def test_a_cancelled_statement_leaves_no_organisation_and_no_answer_behind(pool: ConnectionPool) -> None:
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await pool.fetch(SLEEP.sql, "org_a", 5)
        assert await pool.fetch(PLAIN) == []
        assert await bodies(pool, "org_b") == ["note of org_b"]


@pytest.mark.usefixtures("notes")
async def test_a_connection_that_the_server_ended_is_replaced(pool: ConnectionPool, postgres_url: str) -> None:
    (row,) = await pool.fetch("SELECT pg_backend_pid() AS pid")
    admin = await asyncpg.connect(postgres_url)
    assert await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", row["pid"])
    await admin.close()
    try:
        found = await bodies(pool, "org_a")
    except Unavailable:  # the connection's end had not been seen yet
        found = await bodies(pool, "org_a")
    assert found == ["note of org_a"]


class ProxyWithoutEnds:
    """Forwards connections to PostgreSQL, but not the end of one: the client sees the server's last message only."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self.last_sent = asyncio.Event()  # the server has ended a connection, and all that it sent was forwarded
        self._released = asyncio.Event()

    async def __aenter__(self) -> "ProxyWithoutEnds":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.forward_ends()
        self._server.close()

    def forward_ends(self) -> None:
        """Forward the ends of connections from now on, also those that came before."""
        self._released.set()

    def url(self, url: str) -> str:
        """Return the URL of a database by way of the proxy."""
        port = self._server.sockets[0].getsockname()[1]
        return make_url(url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._target.host, self._target.port)
        forward = asyncio.create_task(self._forward(reader, to_server))
        await self._forward(from_server, writer)
        self.last_sent.set()
        await self._released.wait()
        forward.cancel()
        to_server.close()
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


async def end_backends(postgres_url: str, application: str) -> None:
    """End the server's side of the connections of an application."""
    admin = await asyncpg.connect(postgres_url)
    ended = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = $1"
    assert await admin.fetchval(ended, application)
    await admin.close()


async def test_a_connection_that_is_about_to_end_answers_unavailable(
    database: Database, sample_url: str, postgres_url: str
) -> None:
    async with ProxyWithoutEnds(make_url(postgres_url)) as proxy:
        pool = ConnectionPool(role_url(proxy.url(sample_url), "tenant"), "about to end", 1)
        await pool.fetch(PLAIN)
        await end_backends(postgres_url, "about to end")
        await proxy.last_sent.wait()
        await database.pool.fetch(PLAIN)  # meanwhile the client reads what the proxy has sent
        with pytest.raises(Unavailable):
            await pool.fetch(PLAIN)
        assert await pool.fetch(PLAIN) == []
        proxy.forward_ends()
        await pool.close()


@pytest.mark.usefixtures("notes")
async def test_a_transaction_pooler_between_statements_changes_nothing(sample_url: str) -> None:
    """Each statement may meet another server connection, as behind PgBouncer in transaction mode."""
    url = make_url(sample_url).set(username="sample_tenant").render_as_string(hide_password=False)
    connections = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(3)]
    for turn in range(12):
        organisation = ("org_a", "org_b")[turn % 2]
        rows = await connections[turn % 3].fetch(BODIES.sql, organisation)
        assert [row["body"] for row in rows] == [f"note of {organisation}"]
        assert await connections[turn % 3].fetch(PLAIN) == []
    for connection in connections:
        await connection.close()


async def test_a_writing_statement_cannot_write_for_another_organisation(pool: ConnectionPool) -> None:
    assert len(await pool.fetch(ADD.sql, "org_a", "own", None)) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await pool.fetch(ADD.sql, "org_a", "foreign", "org_b")
    assert await bodies(pool, "org_a") == ["own"]
    assert await bodies(pool, "org_b") == []


async def test_concurrent_statements_of_many_organisations_never_mix(pool: ConnectionPool) -> None:
    organisations = [f"org_{number}" for number in range(20)]
    await asyncio.gather(*(pool.fetch(ADD.sql, name, name, None) for name in organisations))

    async def read(name: str) -> None:
        for _ in range(20):
            assert await bodies(pool, name) == [name]

    await asyncio.gather(*(read(name) for name in organisations))


async def test_a_full_pool_answers_unavailable_with_retry_after(
    pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.pool._WAIT_S", 0.05)
    busy = [asyncio.create_task(pool.fetch(SLEEP.sql, "org_a", 1)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as error:
        await pool.fetch(PLAIN)
    assert error.value.headers["Retry-After"] == "1"
    await asyncio.gather(*busy)
    assert await pool.fetch(PLAIN) == []


async def test_an_unreachable_database_answers_unavailable() -> None:
    pool = ConnectionPool(role_url("postgresql://sample:x@127.0.0.1:1/x", "tenant"), "test", 1)
    with pytest.raises(Unavailable):
        await pool.fetch(PLAIN)


@pytest.mark.usefixtures("notes")
async def test_a_tenant_with_a_session_runs_in_its_transaction(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.tenant("org_a") as session:
            tenant = database.statements("org_a", session)
            assert await tenant.fetch_row(ADD, "not committed", None) is not None
            assert len(await tenant.fetch(BODIES)) == 2
            raise RuntimeError
    tenant = database.statements("org_a")
    assert [row["body"] for row in await tenant.fetch(BODIES)] == ["note of org_a"]
    assert await database.statements("org_c").fetch_row(BODIES) is None


async def test_a_server_that_cannot_be_written_to_is_refused_until_it_can(
    database: Database, sample_url: str, postgres_url: str
) -> None:
    admin = await asyncpg.connect(postgres_url)
    name = make_url(postgres_url).database
    after_failover = Database(sample_url, "after failover")
    try:
        await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        with pytest.raises(Unavailable):
            await after_failover.pool.fetch("SELECT 1")
        with pytest.raises(DBAPIError) as refused:
            async with after_failover.tenant("org_a") as session:
                await session.execute(text("SELECT 1"))
        assert is_transient(refused.value)
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await admin.close()
    assert await after_failover.pool.fetch("SELECT 1")
    await after_failover.close()
