"""What applies notices stays on indexes with 200,000 messages and notices, on plans begun on empty tables."""

from typing import Any

from sqlalchemy import text

from common.database import Database
from delivery.receipts import service
from delivery.inbound.service import ReplyPolicy

FILL = (
    """
    INSERT INTO messages (organisation_id, schedule_id, run, contact_id, phone, text, format, units, scheduled_time,
                          period, lane, request_id, deadline, status, sent_time, provider, provider_message_id)
    SELECT 'org_' || n % 50, n, 1, n, '+614530' || lpad(CAST(n % 50000 AS text), 5, '0'), 'Hi', 'sms', 1, now(),
           '2026-04-01', 'bulk', '', now(), 'sent', now(), 'mobile_message', 'mm-' || n
    FROM generate_series(1, 200000) n
    """,
    """
    INSERT INTO notices (provider, fingerprint, kind, body, message_id, due_at, request_id)
    SELECT 'mobile_message', sha256(CAST(CAST(n AS text) AS bytea)), 'receipt',
           '{"id": "x", "status": "sent", "raw": "x"}', n, NULL, ''
    FROM generate_series(1, 200000) n
    """,
    """
    INSERT INTO stops (organisation_id, phone, stopped, changed_at, source, version)
    SELECT 'org_' || n % 50, '+614530' || n, true, now(), 'reply', n FROM generate_series(1, 50000) n
    """,
)


async def test_no_statement_reads_a_whole_table(tell: Any, database: Database, rows: Any, explain: Any) -> None:
    policy = ReplyPolicy()
    for _ in range(7):  # a plan would be kept after five uses
        await tell("receipts", {"status": "sent", "reference": 7})
        async with database.all_tenants() as session:
            await service.apply_notices(session, policy)
    async with database.all_tenants() as session:
        for statement in FILL:
            await session.execute(text(statement))
    for number in (row.id for row in await rows("SELECT id FROM messages ORDER BY id LIMIT 50")):
        await tell("receipts", {"status": "delivered", "reference": number})
        await tell("receipts", {"status": "failed", "provider_message_id": f"mm-{number}9", "category": "opted_out"})
        await tell("inbound", {"text": "STOP", "phone": f"+614530{number:05d}"})
        await tell("inbound", {"text": "help", "in_reply_to": f"mm-{number}8", "phone": f"+614531{number:05d}"})
    async with database.all_tenants() as session:

        async def apply_and_forget() -> None:
            assert await service.apply_notices(session, policy) >= 200
            await service.forget_notices(session)

        for statement, plan in await explain(session, apply_and_forget):
            for table in ("messages", "notices", "stops", "inbound_messages"):
                assert f"Seq Scan on {table}" not in plan, f"{statement}\n{plan}"
        await session.rollback()
