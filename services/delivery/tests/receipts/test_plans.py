"""Applying webhook events uses indexes, with 200,000 messages and events, on plans made for empty tables."""

from collections.abc import Awaitable, Callable

from sqlalchemy import text

from delivery.inbound.rules import InboundPolicy
from delivery.receipts import service
from services.delivery.tests.webhook_stage import WebhookStage

FILL = (
    """
    INSERT INTO messages (organisation_id, schedule_id, dispatch_number, contact_id, phone, text, format, parts,
                          scheduled_time, period, lane, request_id, deadline, status, sent_time, provider,
                          provider_message_id)
    SELECT 'org_' || n % 50, n, 1, n, '+614530' || lpad(CAST(n % 50000 AS text), 5, '0'), 'Hi', 'sms', 1, now(),
           '2026-04-01', 'bulk', '', now(), 'sent', now(), 'mobile_message', 'mm-' || n
    FROM generate_series(1, 200000) n
    """,
    """
    INSERT INTO webhook_events (provider, fingerprint, kind, body, message_id, due_at, request_id)
    SELECT 'mobile_message', sha256(CAST(CAST(n AS text) AS bytea)), 'receipt',
           '{"id": "x", "status": "sent", "raw": "x"}', n, NULL, ''
    FROM generate_series(1, 200000) n
    """,
    """
    INSERT INTO opt_outs (organisation_id, phone, opted_out, changed_at, source, version)
    SELECT 'org_' || n % 50, '+614530' || n, true, now(), 'reply', n FROM generate_series(1, 50000) n
    """,
    """
    INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, keyword)
    SELECT 'org_' || n % 50, '+614540' || n, '', 'Hi', now(), 'mobile_message', 'help'
    FROM generate_series(1, 200000) n
    """,
)


async def test_no_statement_reads_a_whole_table(
    stage: WebhookStage, explain: Callable[..., Awaitable[list[tuple[str, str]]]]
) -> None:
    policy = InboundPolicy()
    for _ in range(7):  # PostgreSQL may keep a plan after five uses
        await stage.post("receipts", {"status": "sent", "reference": 7})
        async with stage.database.all_tenants() as session:
            await service.apply_webhook_events(session, policy)
    async with stage.database.all_tenants() as session:
        for statement in FILL:
            await session.execute(text(statement))
    for number in (row.id for row in await stage.rows("SELECT id FROM messages ORDER BY id LIMIT 50")):
        opted_out = {"status": "failed", "failure_category": "opted_out"}
        await stage.post("receipts", {"status": "delivered", "reference": number})
        await stage.post("receipts", {**opted_out, "provider_message_id": f"mm-{number}9"})
        await stage.post("inbound", {"text": "STOP", "phone": f"+614530{number:05d}"})
        await stage.post("inbound", {"text": "help", "in_reply_to": f"mm-{number}8", "phone": f"+614531{number:05d}"})
    async with stage.database.all_tenants() as session:
        await session.execute(text("SET LOCAL enable_seqscan = on"))  # so that a plan shows what PostgreSQL prefers

        async def apply() -> None:
            assert await service.apply_webhook_events(session, policy) >= 200

        for statement, plan in await explain(session, apply):
            for table in ("messages", "webhook_events", "opt_outs", "inbound_messages"):
                assert f"Seq Scan on {table}" not in plan, f"{statement}\n{plan}"
        await session.rollback()
