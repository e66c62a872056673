"""Counters are exact under many writers, and no writer waits for another."""

import asyncio
import random

import asyncpg
import pytest
from sqlalchemy import make_url, text

from common.counters import counter
from common.database import Database

COUNTED = "SELECT coalesce(sum(total), 0)::bigint FROM note_counts WHERE organisation_id = :organisation"
REAL = "SELECT count(*) FROM notes WHERE organisation_id = :organisation AND version = 0"


@pytest.fixture(scope="session")
async def counted_notes(sample_url: str) -> None:
    owner = make_url(sample_url).set(username="sample_owner").render_as_string(hide_password=False)
    connection = await asyncpg.connect(owner)
    keys = {"body": ("text", "r.body")}
    counters = (
        counter("sample", "note_counts", "notes", keys=keys, counted="r.version = 0"),
        counter("sample", "note_texts", "notes", keys={}, counted="r.version = 0", content="r.id || r.body"),
    )
    for statement in (statement for statements in counters for statement in statements):
        await connection.execute(statement)
    await connection.close()


pytestmark = pytest.mark.usefixtures("counted_notes")


async def check(database: Database, organisation: str) -> None:
    """The counter equals the rows, also for each key."""
    async with database.tenant(organisation) as session:
        values = {"organisation": organisation}
        assert await session.scalar(text(COUNTED), values) == await session.scalar(text(REAL), values)
        wrong = await session.execute(
            text(
                "SELECT body FROM (SELECT body, sum(total) AS n FROM note_counts GROUP BY body) c FULL JOIN"
                " (SELECT body, count(*) AS n FROM notes WHERE version = 0 GROUP BY body) r USING (body)"
                " WHERE coalesce(c.n, 0) <> coalesce(r.n, 0)"
            )
        )
        assert wrong.all() == []


async def write(database: Database, organisation: str, seed: int) -> None:
    chosen = random.Random(seed)
    for _ in range(25):
        statement = chosen.choice(
            (
                "INSERT INTO notes (organisation_id, body, version)"
                " SELECT :organisation, 'k' || n % 3, n % 2 FROM generate_series(1, :many) AS n",
                "UPDATE notes SET version = 1 - version WHERE id % 7 = :many % 7 AND id % 50 = :seed",
                "UPDATE notes SET body = 'k' || (:many % 3) WHERE id % 50 = :seed",
                "DELETE FROM notes WHERE id % 50 = :seed",
            )
        )
        values = {"organisation": organisation, "many": chosen.randint(1, 20), "seed": seed}
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        try:
            async with database.tenant(organisation) as session:
                await session.execute(text(statement), used)
                if chosen.random() < 0.2:
                    raise ConnectionError  # a rollback leaves nothing behind
        except ConnectionError:
            continue


async def test_a_counter_is_exact_under_many_writers(database: Database) -> None:
    organisations = ("org_a", "org_b")
    await asyncio.gather(*(write(database, name, seed) for seed in range(16) for name in organisations))
    for organisation in organisations:
        await check(database, organisation)


async def test_a_long_transaction_does_not_block_other_writers(database: Database) -> None:
    insert = text("INSERT INTO notes (organisation_id, body) VALUES ('org_a', 'same')")
    async with database.tenant("org_a") as long:
        await long.execute(insert)
        async with asyncio.timeout(5):
            for _ in range(3):
                async with database.tenant("org_a") as session:
                    await session.execute(insert)
        async with database.tenant("org_a") as reader:
            assert await reader.scalar(text(COUNTED), {"organisation": "org_a"}) == 3
    await check(database, "org_a")
    async with database.tenant("org_a") as session:
        assert await session.scalar(text("SELECT count(*) FROM note_counts")) == 2


async def test_a_reader_of_another_organisation_sees_no_counter(database: Database) -> None:
    async with database.tenant("org_a") as session:
        await session.execute(text("INSERT INTO notes (organisation_id, body) VALUES ('org_a', 'x')"))
    async with database.tenant("org_b") as session:
        assert await session.scalar(text("SELECT count(*) FROM note_counts")) == 0


async def test_changes_of_the_content_are_counted_and_no_others(database: Database) -> None:
    organisation = "org_content"
    changes = text("SELECT sum(changes) FROM note_texts")

    async def run(statement: str) -> int:
        """Run a statement and return by how much the number of changes grew."""
        async with database.tenant(organisation) as session:
            before = await session.scalar(changes)
            await session.execute(text(statement), {"o": organisation} if ":o" in statement else {})
            return int(await session.scalar(changes) - (before or 0))

    await run("INSERT INTO notes (organisation_id, body, version) VALUES (:o, 'a', 0), (:o, 'b', 0), (:o, 'c', 1)")
    assert await run("UPDATE notes SET body = body") == 0
    assert await run("UPDATE notes SET body = 'd' WHERE body = 'c'") == 0, "a row that does not count"
    assert await run("UPDATE notes SET body = 'x' WHERE body = 'a'") == 1
    # The bodies of two rows are exchanged.
    assert await run("UPDATE notes SET body = CASE body WHEN 'x' THEN 'b' ELSE 'x' END WHERE version = 0") == 1
    assert await run("DELETE FROM notes WHERE body = 'b'") == 1
