"""Read the database of an earlier system: one snapshot, in pages by id. Nothing is written."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from cooee.errors import CommandError, Refused, Unreachable, WrongUsage
from cooee.moving_in.column_types import find_wrong, select_expression
from cooee.moving_in.columns import SourceTable, System

Row = Mapping[str, Any]
PAGE = 5000
_SHOWN = 5  # columns that an error names
_LOCK = 7_267_336_001  # of the session that reads, in the earlier system's database
_OF_PRISMA = {"schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer", "statement_cache_size"}
_COLUMNS = """
    SELECT table_name, column_name, data_type FROM information_schema.columns
    WHERE table_schema = ANY(current_schemas(false)) AND table_name = ANY($1)
"""


@dataclass(frozen=True)
class Joined:
    """Further columns, joins and a condition with which a table is read. The table itself is `t`."""

    columns: str = ""
    joins: str = ""
    condition: str = "true"


class Source:
    """A snapshot of an earlier system. Several runs see different snapshots, one run sees one."""

    def __init__(
        self,
        connection: "asyncpg.Connection[Any]",
        prefix: str,
        columns: Mapping[str, Mapping[str, str]],
        page_rows: int,
    ) -> None:
        self._connection = connection
        self._page_rows = page_rows
        self._prefix = prefix
        self._columns = columns

    def relation(self, table: SourceTable) -> str:
        """Return a table as a subquery whose columns are the fields of the table."""
        found = self._types(table)
        selected = []
        for column in table.columns:
            name = next((name for name in column.names if name in found), None)
            value = select_expression(column, _quoted(name), found[name]) if name else column.absent
            selected.append(f'{value} AS "{column.field}"')
        return f"(SELECT {', '.join(selected)} FROM {_quoted(self._prefix + table.name)})"  # noqa: S608  # known names

    def _types(self, table: SourceTable) -> Mapping[str, str]:
        return self._columns.get(self._prefix + table.name, {})

    async def check_types(self, system: System) -> None:
        """Raise WrongUsage when a column has values of a type that an import cannot read. Name a row of each."""
        problems = []
        for wrong in (found for table in system.tables for found in find_wrong(table, self._types(table))):
            relation = self.relation(wrong.table)
            statement = f'SELECT t.id FROM {relation} t WHERE t."{wrong.column.field}" IS NOT NULL ORDER BY 1 LIMIT 1'  # noqa: S608  # names of columns
            row = await self._connection.fetchval(statement)
            # Null reads the same from a column of any type. PostgreSQL refuses to compare a text with an integer even
            # if each text is null.
            if row is not None or wrong.is_needed_without_values:
                example = "" if row is None else f" (row {row})"
                column = f"{self._prefix}{wrong.table.name}.{wrong.name}"
                problems.append(f"{column} has the type {wrong.type}, expected {wrong.values}{example}")
        if problems:
            change = "Change the type of " + ("the column" if len(problems) == 1 else "each column")
            raise WrongUsage(f"--source: {_listed(problems, '; ')}. {change}, then start again")

    async def rows(self, table: SourceTable) -> list[Row]:
        """Return all rows of a small table by id, which may be a text."""
        statement = f"SELECT t.* FROM {self.relation(table)} t ORDER BY t.id"  # noqa: S608  # names of columns
        return list(await self._connection.fetch(statement))

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
            SELECT t.*{further} FROM {self.relation(table)} t {joined.joins}
            WHERE t.id > CAST($1 AS bigint) AND {condition} AND {joined.condition} ORDER BY t.id LIMIT $2
        """  # noqa: S608  # names of tables and columns
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
        statement = f"SELECT count(*) FROM {self.relation(table)} t WHERE {condition}"  # noqa: S608  # a name and a constant
        return int(await self._connection.fetchval(statement))


def _listed(problems: Sequence[str], separator: str) -> str:
    """Return the first problems in one text, with the number of the others."""
    more = len(problems) - _SHOWN
    return separator.join([*problems[:_SHOWN], *([f"and {more:,} more"] if more > 0 else ())])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@asynccontextmanager
async def open_source(
    url: str, system: System, prefix: str, page_rows: int = PAGE, *, is_dry_run: bool = False
) -> AsyncIterator[Source]:
    """Open a snapshot that cannot be written.

    Raises Unreachable, WrongUsage when the URL is none or a column is missing or has a wrong type, and Refused while
    another import that writes reads this database: two at once would add rows twice.
    """
    try:
        connection = await asyncpg.connect(**_connection(url), timeout=10)
    except ValueError:  # its text may have the password
        raise WrongUsage("--source: enter the URL of a PostgreSQL database, postgresql://…") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unreachable(f"the earlier system's database: {error or type(error).__name__}") from None
    try:
        if not is_dry_run:
            await _lock(connection)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            source = Source(connection, prefix, await _find_columns(connection, system, prefix), page_rows)
            await source.check_types(system)
            yield source
    except (asyncpg.PostgresConnectionError, ConnectionError) as error:
        raise Unreachable(f"the earlier system's database: {error}. Start the command again") from None
    except asyncpg.PostgresError as error:
        raise CommandError(f"the earlier system's database: {error.args[0]}") from None
    finally:
        await connection.close(timeout=5)


async def _lock(connection: "asyncpg.Connection[Any]") -> None:
    """Lock imports from this database while the connection is open. Wait a little: PostgreSQL may not know yet that a
    killed import is gone.
    """
    await connection.execute("SET lock_timeout = '5s'")
    try:
        await connection.execute(f"SELECT pg_advisory_lock({_LOCK})")
    except asyncpg.LockNotAvailableError:
        sentence = "another import from this database is running: wait for its end, and start the command again"
        raise Refused(sentence) from None


def _connection(url: str) -> dict[str, Any]:
    """Return how to connect. Prisma adds settings to its URLs, of which only the schema matters here."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    if not {name for name, _ in query} & _OF_PRISMA:
        return {"dsn": url}
    kept = urlencode([(name, value) for name, value in query if name not in _OF_PRISMA])
    schema = dict(query).get("schema")
    settings = {"search_path": _quoted(schema)} if schema else None
    return {"dsn": urlunsplit(parts._replace(query=kept)), "server_settings": settings}


async def _find_columns(
    connection: "asyncpg.Connection[Any]", system: System, prefix: str
) -> dict[str, dict[str, str]]:
    """Return the columns of each table with their types. Raises WrongUsage when one that must be there is missing."""
    found: dict[str, dict[str, str]] = {}
    for row in await connection.fetch(_COLUMNS, [prefix + table.name for table in system.tables]):
        found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    missing = [
        f"{prefix}{table.name}.{' or '.join(column.names)}"
        for table in system.tables
        for column in table.columns
        if column.required and not found.get(prefix + table.name, {}).keys() & set(column.names)
    ]
    if missing:
        cause = ", or --table-prefix is wrong" if system.prefix else ""
        raise WrongUsage(f"--source: this is no database of {system.name}{cause}. Missing: {_listed(missing, ', ')}")
    return found
