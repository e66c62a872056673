"""Claims use their index with 200,000 queued rows, on plans that were made when the tables were empty."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import FailureCategory
from delivery.messages import repository as messages
from delivery.messages.rules import InSubmission, Result
from delivery.messages.schemas import DispatchId
from delivery.models import ClaimedMessage, MessageStatus
from delivery.sending import repository, submissions
from delivery.sending.routing import Share
from delivery.sending.rules import Capacity, LanePositions
from delivery.sending.throttling import Allowance
from services.delivery.tests.stage import Stage

FILL = """
    INSERT INTO messages (organisation_id, schedule_id, dispatch_number, phone, text, format, parts, scheduled_time,
                          period, lane, request_id, deadline, status, next_attempt_at)
    SELECT 'org_' || n % 300, 1000000 + n, 1, '+614530' || lpad(CAST(n % 50000 AS text), 5, '0'), 'Hi', 'sms', 1, now(),
           '2026-04-01', 'bulk', '', now() + interval '1 day',
           CASE WHEN n % 10 = 0 THEN 'retry_wait' ELSE 'queued' END,
           CASE WHEN n % 10 = 0 THEN now() + interval '1 hour' END
    FROM generate_series(CAST(:first AS int), :first + 9999) n
"""
OVERRIDDEN = [f"org_{number}" for number in range(0, 300, 2)]
SHARES = [Share((), others=True), Share(OVERRIDDEN, others=True), Share(OVERRIDDEN, others=False)]
ERASED = """
    INSERT INTO erased_opt_outs (organisation_id, phone_hash, changed_at, source, version)
    SELECT 'org_' || n % 300, sha256(convert_to(CAST(n AS text), 'UTF8')), now(), 'reply', n
    FROM generate_series(1, 20000) n
"""
Explain = Callable[[AsyncSession, Callable[[], Awaitable[Any]]], Awaitable[list[tuple[str, str]]]]


def capacity(messages: int, after: str = "") -> Capacity:
    return Capacity(
        message_format="sms",
        submissions=messages,
        messages=messages,
        allowance=Allowance(),
        positions=LanePositions(bulk=after),
    )


async def test_no_statement_on_the_way_of_a_message_reads_the_whole_table(stage: Stage, explain: Explain) -> None:
    async with stage.database.all_tenants() as session:
        await session.execute(text("SET LOCAL enable_seqscan = on"))  # so that a plan shows what PostgreSQL prefers
        for _ in range(7):  # a plan would be kept after five uses
            for share in SHARES:
                await repository.claim(session, "log", capacity(32), share)
            await messages.queue_retries(session, 500)
        for first in range(0, 200_000, 10_000):  # each within the role's time-out, on a busy machine too
            await session.execute(text(FILL), {"first": first})
    await stage.execute(ERASED)
    await stage.add_due(*(stage.due() for _ in range(10)))
    async with stage.database.all_tenants() as session:
        await session.execute(text("SET LOCAL enable_seqscan = on"))  # so that a plan shows what PostgreSQL prefers
        rows: list[ClaimedMessage] = []

        async def send_and_fail() -> None:
            for share in SHARES[1:]:
                await repository.claim(session, "log", capacity(500), share)
            rows.extend(await repository.claim(session, "log", capacity(500, "org_3"), SHARES[0]))
            key = stage.due().event_id
            await submissions.add(session, "log", {key: (rows, b"")}, stage.policy)
            sending = [InSubmission(row.id, key) for row in rows]
            await messages.set_sending(session, "log", sending)
            await messages.set_unknown(session, sending)
            await messages.set_resending(session, sending)
            results = [Result(message_id=row.id, key=key, tries=1, status=MessageStatus.SENT) for row in rows]
            await messages.apply_results(session, results)
            await submissions.remove_resolved(session, [key])
            await submissions.due(session, "log", 100)
            await submissions.lock_messages(session, [row.id for row in rows], handles_opt_outs=False)
            failures: dict[int, FailureCategory] = {row.id: "expired" for row in rows}
            await messages.fail(session, failures)
            await messages.complete(session, results)
            await messages.lock_expired(session, 500)
            await messages.queue_retries(session, 500)
            await messages.states(session, [DispatchId(schedule_id=n, dispatch_number=1) for n in range(1, 501)])

        plan = "\n".join(plan for _, plan in await explain(session, send_and_fail))
        await session.rollback()
    assert len(rows) == 500
    assert "messages_queued" in plan
    assert "Seq Scan on messages" not in plan, plan
    assert "erased_opt_outs_pkey" in plan
    assert "Seq Scan on erased_opt_outs" not in plan, plan


@pytest.fixture
async def unvacuumed(postgres_url: str) -> AsyncIterator[None]:
    """Keep autovacuum from analysing the messages of a transaction that is not committed, of which it sees none."""
    owner = await asyncpg.connect(postgres_url)
    await owner.execute("ALTER TABLE delivery.messages SET (autovacuum_enabled = false)")
    yield
    await owner.execute("ALTER TABLE delivery.messages RESET (autovacuum_enabled)")
    await owner.close()


@pytest.mark.usefixtures("unvacuumed")
async def test_the_kept_plan_of_a_claim_uses_its_index(stage: Stage, kept_plan: Callable[..., Any]) -> None:
    async with stage.database.all_tenants() as session:

        async def claim() -> None:
            await repository.claim(session, "log", capacity(500), SHARES[0])

        async def fill() -> None:
            for first in range(0, 200_000, 10_000):
                await session.execute(text(FILL), {"first": first})

        plan = await kept_plan(session, claim, fill)
        await session.rollback()
    used = [line for line in plan if " on messages" in line]
    assert "$1" in "\n".join(plan)  # it is the kept plan, and not one for these values
    assert used
    assert all("messages_queued" in line for line in used), "\n".join(plan)


async def test_a_claim_uses_its_index_when_nothing_was_queued_at_the_last_analyze(
    stage: Stage, explain: Explain, postgres_url: str
) -> None:
    await stage.execute(FILL.replace("9999", "99"), first=0)
    await stage.execute("UPDATE messages SET status = 'sent'")
    owner = await asyncpg.connect(postgres_url)
    await owner.execute("ANALYZE delivery.messages")
    await owner.close()
    async with stage.database.all_tenants() as session:

        async def claim() -> None:
            for share in SHARES:
                await repository.claim(session, "log", capacity(500), share)

        plan = "\n".join(plan for _, plan in await explain(session, claim))
    scans = [line for line in plan.splitlines() if " on messages" in line]
    assert scans
    assert all("messages_queued" in line for line in scans), plan
