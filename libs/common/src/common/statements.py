"""Single statements that set their organisation, for the hot routes of the API.

A transaction of a tenant session costs four round trips: BEGIN, set_config, the statement, COMMIT. A `Statement` sets
the organisation itself, for its own duration, so one round trip is enough and nothing stays on the connection.
Row-level security stays in force: a statement that reads a table first, before the setting, sees no rows.

docs/performance.md explains the mechanism and its rules.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from common.pool import ConnectionPool
from common.wakes import Wakes

_SETTING = "set_config('app.organisation_id', $1, true) AS id"
# The FROM item of a reading statement. Every table after it must depend on `o.id` LATERALly, so that PostgreSQL makes
# the setting before it evaluates the policy of the table. OFFSET 0 keeps the sub-select from being pulled up.
ORGANISATION = f"(SELECT {_SETTING} OFFSET 0) o"
# The same as the first CTE of a writing statement.
ORGANISATION_CTE = f"o AS MATERIALIZED (SELECT {_SETTING})"


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement whose parameter `$1` is the organisation. It contains ORGANISATION or ORGANISATION_CTE.

    `wakes` names the loops that have work when the statement returned rows, such as the relay's `outbox`.
    """

    sql: str
    wakes: str | None = None

    def __post_init__(self) -> None:
        if _SETTING not in self.sql:
            raise ValueError("a statement must set its organisation")


class Source(Protocol):
    """What a Tenant needs of a database."""

    pool: ConnectionPool
    wakes: Wakes

    def tenant(self, organisation_id: str) -> AbstractAsyncContextManager[AsyncSession]:
        """Begin a transaction that sees one organisation."""


class Tenant:
    """Where the statements of one organisation run: each by itself, or all in the transaction of a keyed request."""

    def __init__(self, source: Source, organisation_id: str, session: AsyncSession | None = None) -> None:
        self.organisation_id = organisation_id
        self._source = source
        self._session = session

    @property
    def is_keyed(self) -> bool:
        """Whether the statements run in the transaction of a keyed request."""
        return self._session is not None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Begin a transaction of the organisation, or continue that of the keyed request."""
        if self._session is not None:
            yield self._session
            return
        async with self._source.tenant(self.organisation_id) as session:
            yield session

    async def fetch(self, statement: Statement, *values: Any) -> Sequence[Any]:
        """Run a statement with `$2, $3, …` = `values` and return its rows.

        If the statement has `wakes` and returns rows, the loops that wait for it are woken after the commit. Raises
        Unavailable when no connection is free in time or the database cannot be reached.
        """
        if self._session is None:
            rows = await self._source.pool.fetch(statement.sql, self.organisation_id, *values)
            if statement.wakes and rows:
                self.wake(statement.wakes)
            return rows
        connection = await self._session.connection()  # it begins the transaction and sets the organisation
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        found: Sequence[Any] = await driver.fetch(statement.sql, self.organisation_id, *values)
        if statement.wakes and found:
            self.wake(statement.wakes)
        return found

    def wake(self, name: str) -> None:
        """Wake the loops that wait for `name`: now, or when the keyed request commits."""
        if self._session is None:
            self._source.wakes.wake(name)
        else:
            self._session.info.setdefault("to_wake", set()).add(name)

    async def fetch_row(self, statement: Statement, *values: Any) -> Any | None:
        """Run a statement and return its first row, or None."""
        rows = await self.fetch(statement, *values)
        return rows[0] if rows else None
