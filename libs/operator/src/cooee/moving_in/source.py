"""Reading the database of an earlier system: one snapshot, in pages by id, and nothing is written."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from cooee.errors import CommandError, Unreachable, WrongUsage
from cooee.moving_in.columns import TABLES, SourceTable

Row = Mapping[str, Any]
PAGE = 5000
_COLUMNS = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = ANY(current_schemas(false)) AND table_name = ANY($1)
"""


@dataclass(frozen=True)
class Joined:
    """What a table is read with: its further columns, its joins, and a condition. The table itself is `t`."""

    columns: str = ""
    joins: str = ""
    condition: str = "true"


class Source:
    """A snapshot of an earlier system. Several runs see different snapshots, one run sees one."""

    def __init__(
        self, connection: "asyncpg.Connection[Any]", prefix: str, columns: Mapping[str, set[str]], page_rows: int
    ) -> None:
        self._connection = connection
        self._page_rows = page_rows
        self._prefix = prefix
        self._columns = columns

    def table(self, table: SourceTable) -> str:
        """Return the quoted name of a table."""
        return f'"{self._prefix}{table.name}"'

    def column(self, table: SourceTable, name: str) -> str:
        """Return the name that the source's table has for a required column."""
        found = self._columns[self._prefix + table.name]
        names = next(column.names for column in table.columns if column.names[0] == name)
        return next(name for name in names if name in found)

    def _selected(self, table: SourceTable) -> str:
        found = self._columns.get(self._prefix + table.name, set())
        selected = []
        for column in table.columns:
            name = next((name for name in column.names if name in found), None)
            selected.append(f'{f"t.{name}" if name else "NULL"} AS "{column.names[0]}"')
        return ", ".join(selected)

    async def rows(self, table: SourceTable, joined: Joined = Joined()) -> list[Row]:
        """Return all rows of a small table by id."""
        return [row async for page in self.pages(table, [], joined) for row in page]

    async def pages(
        self,
        table: SourceTable,
        organisations: Sequence[int],
        joined: Joined = Joined(),
        owner: str = "t.organisation_id",
    ) -> AsyncIterator[list[Row]]:
        """Yield the rows by id, at most `page_rows` at once: of some organisations, or of all when there are none."""
        condition = f"{owner} = ANY($3::bigint[])" if organisations else "cardinality($3::bigint[]) = 0"
        further = f", {joined.columns}" if joined.columns else ""
        statement = f"""
            SELECT {self._selected(table)}{further} FROM {self.table(table)} t {joined.joins}
            WHERE t.id > $1 AND {condition} AND {joined.condition} ORDER BY t.id LIMIT $2
        """  # noqa: S608  # names of the columns that the source has
        after = -(2**63)
        while True:
            page = await self._connection.fetch(statement, after, self._page_rows, list(organisations))
            if page:
                yield page
            if len(page) < self._page_rows:
                return
            after = page[-1]["id"]

    async def count(self, table: SourceTable, condition: str = "true") -> int:
        """Return the number of rows, for the progress."""
        statement = f"SELECT count(*) FROM {self.table(table)} t WHERE {condition}"  # noqa: S608  # a name and a constant
        return int(await self._connection.fetchval(statement))


@asynccontextmanager
async def open_source(url: str, prefix: str, page_rows: int = PAGE) -> AsyncIterator[Source]:
    """Open a snapshot that cannot be written.

    Raises Unreachable, and WrongUsage when the URL is none or a table or column is missing.
    """
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except ValueError:  # its text may have the password
        raise WrongUsage("--source: enter the URL of a PostgreSQL database, postgresql://…") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unreachable(f"the earlier system's database: {error or type(error).__name__}") from None
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield Source(connection, prefix, await _find_columns(connection, prefix), page_rows)
    except (asyncpg.PostgresConnectionError, ConnectionError) as error:
        raise Unreachable(f"the earlier system's database: {error}. Start the command again") from None
    except asyncpg.PostgresError as error:
        raise CommandError(f"the earlier system's database: {error.args[0]}") from None
    finally:
        await connection.close(timeout=5)


async def _find_columns(connection: "asyncpg.Connection[Any]", prefix: str) -> dict[str, set[str]]:
    """Return the columns of each table. Raises WrongUsage when one that must be there is missing."""
    found: dict[str, set[str]] = {}
    for row in await connection.fetch(_COLUMNS, [prefix + table.name for table in TABLES]):
        found.setdefault(row["table_name"], set()).add(row["column_name"])
    missing = [
        f"{prefix}{table.name}.{' or '.join(column.names)}"
        for table in TABLES
        for column in table.columns
        if column.required and not found.get(prefix + table.name, set()) & set(column.names)
    ]
    if missing:
        raise WrongUsage(
            f"--source: this is no database of v2, or --table-prefix is wrong. Missing: {', '.join(missing[:5])}"
        )
    return found
