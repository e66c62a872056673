"""A page of a long list is exact, and costs the same at the start, in the middle and at the end."""

from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url, text

from common.counters import counter
from common.database import Database
from common.pages import PagedList
from common.paging import Page

NAMES = [f"c{number:03d}" for number in range(237)]


@pytest.fixture(scope="session")
async def cards(sample_url: str) -> None:
    owner = make_url(sample_url).set(username="sample_owner").render_as_string(hide_password=False)
    connection = await asyncpg.connect(owner)
    await connection.execute(
        "CREATE TABLE cards (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organisation_id text NOT NULL,"
        " name text NOT NULL, made_at timestamptz NOT NULL, shown boolean NOT NULL DEFAULT true);"
        "CREATE INDEX cards_listed ON cards (organisation_id, made_at DESC, id DESC) WHERE shown;"
        "GRANT SELECT, INSERT, UPDATE ON cards TO sample_tenant, sample_all"
    )
    for statement in counter("sample", "card_counts", "cards", keys={}, counted="r.shown"):
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
def listed() -> PagedList:
    return PagedList(
        columns="id, name, made_at",
        source="cards",
        where="organisation_id = o.id AND shown",
        order=("made_at", "id"),
        types=("timestamptz", "bigint"),
        total="SELECT coalesce(sum(total), 0)::bigint AS total, coalesce(sum(changes), 0)::bigint AS changes"
        " FROM card_counts WHERE organisation_id = o.id",
    )


@pytest.fixture
async def filled(database: Database, cards: None) -> Database:
    """Cards of two organisations, several of them made at the same time."""
    async with database.all_tenants() as session:
        for organisation in ("org_a", "org_b"):
            await session.execute(
                text(
                    "INSERT INTO cards (organisation_id, name, made_at) SELECT :organisation, n, now() + (ord / 10) *"
                    " interval '1 s' FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS u (n, ord)"
                ),
                {"organisation": organisation, "names": NAMES},
            )
    return database


async def names(database: Database, listed: PagedList, number: int, limit: int = 10) -> tuple[list[str], int]:
    rows, total = await listed.read(database.statements("org_a"), Page(number, limit))
    return [row["name"] for row in rows], total


@pytest.mark.parametrize("order", ["forward", "backward", "twice"])
async def test_every_page_is_exact_in_whatever_order_pages_are_read(
    filled: Database, listed: PagedList, order: str
) -> None:
    expected = NAMES[::-1]
    numbers = list(range(1, 26))
    visits = {"forward": numbers, "backward": numbers[::-1], "twice": [*numbers, *numbers[::3]]}[order]
    for number in visits:
        found = await names(filled, listed, number)
        assert found == (expected[(number - 1) * 10 : number * 10], len(NAMES)), number


async def test_anchors_are_dropped_when_rows_come_or_go(filled: Database, listed: PagedList) -> None:
    for number in (8, 9, 10):
        await names(filled, listed, number)
    async with filled.tenant("org_a") as session:
        await session.execute(text("UPDATE cards SET shown = false WHERE organisation_id = 'org_a' AND name = 'c230'"))
    expected = [name for name in NAMES[::-1] if name != "c230"]
    for number in (9, 10, 11):
        assert await names(filled, listed, number) == (expected[(number - 1) * 10 : number * 10], len(NAMES) - 1)


async def test_a_page_past_the_end_is_empty_with_the_total(filled: Database, listed: PagedList) -> None:
    assert await names(filled, listed, 25) == ([], len(NAMES))
    assert await names(filled, listed, 10**9) == ([], len(NAMES))
    rows, total = await listed.read(filled.statements("org_of_nobody"), Page(1, 10))
    assert (list(rows), total) == ([], 0)


async def scanned(database: Database, listed: PagedList, values: list[Any]) -> int:
    """The largest number of rows that one node of the plan reads."""
    async with database.tenant("org_a") as session:
        connection = await session.connection()
        driver: Any = (await connection.get_raw_connection()).driver_connection
        plan = await driver.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + listed.statement.sql, "org_a", *values)

    def largest(node: dict[str, Any]) -> int:
        own = int(node.get("Actual Rows", 0)) * int(node.get("Actual Loops", 1))
        return max([own, *(largest(child) for child in node.get("Plans", []))])

    return largest(plan[0]["Plan"])


async def test_first_and_last_page_and_one_from_an_anchor_read_only_their_rows(
    filled: Database, listed: PagedList
) -> None:
    async with filled.all_tenants() as session:
        await session.execute(
            text(
                "INSERT INTO cards (organisation_id, name, made_at) "
                "SELECT 'org_a', 'x' || n, now() - n * interval '1 s'"
                " FROM generate_series(1, 20000) AS n"
            )
        )
    total = 20000 + len(NAMES)
    await listed.read(filled.statements("org_a"), Page(200, 50))
    (known,) = listed._anchors.values()
    key = known.keys[9950]
    assert await scanned(filled, listed, [50, 0, 0, None, None, -1]) <= 60
    assert await scanned(filled, listed, [50, total - 50, 0, None, None, -1]) <= 60
    assert await scanned(filled, listed, [50, 10000, 9950, *key, known.changes]) <= 110
