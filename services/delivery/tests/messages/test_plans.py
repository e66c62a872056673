"""Claims stay on their indexes with 200,000 rows queued, on plans that were made when the tables were empty."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database
from common.events import ScheduleDue
from delivery.messages import calls, repository
from delivery.messages.rules import Order, Policy, Result, Share

FILL = """
    INSERT INTO messages (organisation_id, schedule_id, run, phone, text, format, units, scheduled_time, period, lane,
                          request_id, deadline, status, next_attempt_at)
    SELECT 'org_' || n % 300, 1000000 + n, 1, '+614530' || lpad(CAST(n % 50000 AS text), 5, '0'), 'Hi', 'sms', 1, now(),
           '2026-04-01', 'bulk', '', now() + interval '1 day',
           CASE WHEN n % 10 = 0 THEN 'retry_wait' ELSE 'queued' END,
           CASE WHEN n % 10 = 0 THEN now() + interval '1 hour' END
    FROM generate_series(CAST(:first AS int), :first + 9999) n
"""
OVERRIDDEN = [f"org_{number}" for number in range(0, 300, 2)]
SHARES = [Share((), others=True), Share(OVERRIDDEN, others=True), Share(OVERRIDDEN, others=False)]
Explain = Callable[[AsyncSession, Callable[[], Awaitable[Any]]], Awaitable[list[tuple[str, str]]]]


def order(share: Share, messages: int, after: str = "") -> Order:
    return Order("sms", share, messages, messages, {"single": "", "bulk": after}, {})


async def test_no_statement_of_the_main_road_reads_the_whole_table(
    database: Database, due: Callable[..., ScheduleDue], take_in: Any, policy: Policy, explain: Explain
) -> None:
    async with database.all_tenants() as session:
        for _ in range(7):  # a plan would be kept after five uses
            for share in SHARES:
                await repository.claim(session, order(share, 32))
            await repository.promote(session, 500)
        for first in range(0, 200_000, 10_000):  # each within the role's time-out, on a busy machine too
            await session.execute(text(FILL), {"first": first})
    await take_in(*(due() for _ in range(10)))
    async with database.all_tenants() as session:
        rows: list[Any] = []

        async def main_road() -> None:
            for share in SHARES[1:]:
                await repository.claim(session, order(share, 500))
            rows.extend(await repository.claim(session, order(SHARES[0], 500, "org_3")))
            key = due().event_id
            await calls.start(session, "log", {key: (rows, b"")}, {}, policy)
            results = [Result(row.id, key, 1, "sent") for row in rows]
            await repository.finish(session, results)
            await calls.remove_settled(session, [key])
            await calls.due(session, "log", 100)
            await calls.lock_messages(session, [row.id for row in rows])
            await repository.fail(session, {row.id: ("expired", "late") for row in rows})
            await repository.fill(session, results)
            await repository.lock_expired(session, 500)
            await repository.promote(session, 500)
            await repository.states(session, {(number, 1) for number in range(1, 501)})

        plan = "\n".join(plan for _, plan in await explain(session, main_road))
        await session.rollback()
    assert len(rows) == 500
    assert "messages_queued" in plan
    assert "Seq Scan on messages" not in plan, plan


async def test_a_claim_walks_its_own_index_also_when_nothing_was_queued_at_the_last_analyze(
    database: Database, execute: Any, explain: Explain, postgres_url: str
) -> None:
    await execute(FILL.replace("9999", "99"), first=0)
    await execute("UPDATE messages SET status = 'sent'")
    owner = await asyncpg.connect(postgres_url)
    await owner.execute("ANALYZE delivery.messages")
    await owner.close()
    async with database.all_tenants() as session:

        async def claim() -> None:
            for share in SHARES:
                await repository.claim(session, order(share, 500))

        plan = "\n".join(plan for _, plan in await explain(session, claim))
    scans = [line for line in plan.splitlines() if " on messages" in line]
    assert scans
    assert all("messages_queued" in line for line in scans), plan
