"""Every list of messages uses its index, with 200,000 messages in the organisation."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database, role_url
from common.paging import Page
from delivery.messages import lists
from delivery.messages.rules import MessageSearch
from delivery.messages.schemas import Filters

FILL = (
    """
    INSERT INTO messages (organisation_id, schedule_id, dispatch_number, contact_id, phone, text, format, parts,
                          scheduled_time, period, lane, request_id, deadline, status, created_at)
    SELECT CASE WHEN n % 10 = 0 THEN 'org_small' ELSE :organisation END, n, 1, n % 5000 + 1,
           '+614530' || lpad(CAST(n % 5000 AS text), 5, '0'), 'Hi', 'sms', 1, now(), '2026-04-01', 'bulk', '', now(),
           CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'sent' END, now() - make_interval(secs => n)
    FROM generate_series(1, 220000) n
    """,
    """
    INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, contact_id)
    SELECT :organisation, '+614530' || lpad(CAST(n % 5000 AS text), 5, '0'), '', 'Yes',
           now() - make_interval(secs => n), 'log', n % 5000 + 1
    FROM generate_series(1, 50000) n
    """,
)
DAY = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC))
PHONE = "+61453000042"
Explain = Callable[[AsyncSession, Callable[[], Awaitable[Any]]], Awaitable[list[tuple[str, str]]]]


@pytest.fixture
async def filled(database: Database, organisation: str, delivery_url: str) -> str:
    """Return an organisation that has 200,000 messages."""
    async with database.all_tenants() as session:
        for statement in FILL:
            await session.execute(text(statement), {"organisation": organisation})
    owner = await asyncpg.connect(role_url(delivery_url, "owner").set(drivername="postgresql").render_as_string(False))
    for table in ("messages", "inbound_messages"):  # autovacuum does this after so many rows
        await owner.execute(f"VACUUM (ANALYZE) {table}")
    await owner.close()
    return organisation


async def test_no_list_reads_a_whole_table_or_sorts_it(database: Database, filled: str, explain: Explain) -> None:
    async with database.tenant(filled) as session:

        async def read_pages() -> None:
            for filters, (start, end) in (
                (Filters(), (None, None)),
                (Filters(first=DAY[0].date()), DAY),
                (Filters(phone=PHONE), (None, None)),
                (Filters(statuses=frozenset({"sent", "received"})), (None, None)),
                (Filters(direction="inbound"), DAY),
                (Filters(contact=43, phone=PHONE), (None, None)),
            ):
                for page in (1, 4000):
                    rows, total = await lists.page(session, filters, Page(page), start=start, end=end)
                    assert len(rows) == max(0, min(50, total - (page - 1) * 50))

        for statement, plan in await explain(session, read_pages):
            rows_part = plan[re.search(r"-> +Limit", plan).start() :]  # the counts are before it
            assert "Seq Scan" not in rows_part, plan
            if "message_counts" in statement:
                assert " on messages" not in plan.removesuffix(rows_part), plan
            assert not re.search(r"-> +(Incremental )?Sort", rows_part), plan


async def test_search_of_an_operator_follows_an_index(database: Database, filled: str, explain: Explain) -> None:
    async with database.all_tenants() as session:

        async def find() -> None:
            for wanted in (MessageSearch(filled), MessageSearch(filled, before=5), MessageSearch(None, "SM123")):
                await lists.find_all_tenants(session, wanted, 50)

        plans = await explain(session, find)
        assert len(plans) == 3
        for _, plan in plans:
            assert "Seq Scan" not in plan, plan
