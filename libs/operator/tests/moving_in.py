"""Share what the tests of all imports need: the tables that an import writes, changes of its source, and a kill."""

import asyncio
import csv
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from .conftest import Sql

# The tables that an import writes. `outbox` has the events of contacts that opted out.
WRITTEN = {
    "contacts": (
        "organisations",
        "users",
        "memberships",
        "contacts",
        "groups",
        "group_members",
        "moved_rows",
        "outbox",
    ),
    "scheduling": ("templates", "template_versions", "schedules", "moved_rows"),
    "delivery": ("configs", "limit_usage", "moved_usage", "moved_rows", "outbox"),
}
State = dict[str, list[str]]
ReadState = Callable[[], Awaitable[State]]


def state_reader(sql: Sql) -> ReadState:
    """Return a function that returns every row of the tables that an import writes."""

    async def read() -> State:
        found = {}
        for service, tables in WRITTEN.items():
            for table in tables:
                rows = await sql(service, f"SELECT CAST(t AS text) FROM {table} t ORDER BY 1")
                found[f"{service}.{table}"] = [row[0] for row in rows]
        return found

    return read


async def change(url: str, *statements: str) -> None:
    """Execute statements in the source."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def of_kind(document: Any, kind: str) -> dict[str, int]:
    """Return the sums of the lines of a table."""
    lines = [line for line in document["tables"] if line["table"] == kind]
    return {
        name: sum(line[name] for line in lines)
        for name in ("source_rows", "imported", "merged", "pending_cut_over", "rejected")
    }


async def kill_in_the_middle(urls: dict[str, str], *arguments: str, phone: str, page_rows: int) -> None:
    """Start an import into org_1 that waits at the contact with this phone, and kill it there."""
    owner = await asyncpg.connect(urls["contacts"].replace("//contacts:", "//contacts_all:"))
    environment = os.environ | {f"{service.upper()}_DATABASE_URL": found for service, found in urls.items()}
    process = None
    try:
        # The import waits for this transaction, because it may add the contact.
        await owner.execute("BEGIN")
        await owner.execute("INSERT INTO contacts (organisation_id, phone) VALUES ('org_1', $1)", phone)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cooee", *arguments, "--reason", "test of a kill", "--page-rows", str(page_rows)),
            env=environment | {"COOEE_HOME": "/nonsuch"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(60):
            while not await owner.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid')"
            ):
                assert process.returncode is None, "it ended before it was killed"
                await asyncio.sleep(0.02)  # no event says that a statement waits for a lock
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    finally:
        if process is not None and process.returncode is None:
            process.kill()
        await owner.execute("ROLLBACK")
        await owner.close()


# Ids and times differ between two imports, because an interrupted one leaves gaps.
COMPARED = (
    ("contacts", "SELECT organisation_id, phone, first_name, is_active, opt_out, created_at FROM contacts"),
    ("contacts", "SELECT kind, old_id, hash, month, is_compared FROM moved_rows WHERE kind <> 'member'"),
    ("contacts", "SELECT g.name, c.phone FROM group_members m JOIN groups g ON g.id = m.group_id"
                 " JOIN contacts c ON c.id = m.contact_id"),
    ("scheduling", "SELECT organisation_id, kind, status, phone, text, scheduled_time, message_count, batch_position"
                   " FROM schedules"),
    ("delivery", "SELECT * FROM limit_usage"),
)  # fmt: skip


async def compared(sql: Sql) -> list[list[tuple[Any, ...]]]:
    return [sorted(map(tuple, await sql(service, text)), key=str) for service, text in COMPARED]
