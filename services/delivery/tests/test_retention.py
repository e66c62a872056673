"""Old messages of both directions lose their content and later leave, by an index, and the ledger stays."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from sqlalchemy import text

from common.retention import BATCH, apply_rules
from delivery.erasure import service as erasure
from delivery.retention import RULES
from services.delivery.tests.stage import Stage

INBOUND = """
    INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, media_urls,
                                  created_at)
    VALUES (:organisation, '+61453000001', '', 'Hello', now(), 'x', '{http://x/1}',
            now() - make_interval(days => :days))
"""
FILL = (
    """
    INSERT INTO messages (organisation_id, schedule_id, dispatch_number, phone, text, format, parts, scheduled_time,
                          period, lane, request_id, deadline, status, content_removed, changed_at)
    SELECT 'org_1', n, 1, '+61453000001', 'Hi', 'sms', 1, now(), '2026-04-01', 'bulk', '', now(),
           (ARRAY['sent', 'delivered', 'failed', 'queued'])[n % 4 + 1], n < 20000, now() - n * interval '1 hour'
    FROM generate_series(1, 60000) n
    """,
    """
    INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, created_at)
    SELECT 'org_1', '+61453000001', '', 'Hi', now(), 'x', now() - n * interval '1 hour' FROM generate_series(1, 60000) n
    """,
    """
    INSERT INTO webhook_events (provider, fingerprint, kind, body, due_at, request_id, received_at)
    SELECT 'x', sha256(CAST(CAST(n AS text) AS bytea)), 'receipt', '{}', NULL, '', now() - n * interval '1 hour'
    FROM generate_series(1, 60000) n
    """,
)


async def run(stage: Stage) -> None:
    while await apply_rules(stage.database, stage.make_settings(), RULES):
        pass


async def age(stage: Stage, days: int, condition: str = "true") -> None:
    await stage.execute(
        f"UPDATE messages SET changed_at = now() - make_interval(days => :days) WHERE {condition}", days=days
    )


async def test_content_of_final_messages_is_removed_then_they_leave_and_usage_stays(
    stage: Stage, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    await stage.add_due(stage.due(), stage.due(), stage.due())
    await stage.execute("UPDATE messages SET status = 'delivered' WHERE id < 3")
    await age(stage, 91)
    await age(stage, 89, "id = 2")
    await run(stage)
    rows = await stage.rows("SELECT text, content_removed FROM messages ORDER BY id")
    assert [tuple(row) for row in rows] == [("", True), ("Hi Ana", False), ("Hi Ana", False)]
    await age(stage, 731)
    await run(stage)
    headers = bearer("delivery", stage.organisation)
    listed = (await client.get("/api/messages/", headers=headers)).json()
    assert (listed["pagination"]["total"], [one["text"] for one in listed["results"]]) == (1, ["Hi Ana"])
    assert [row.usage for row in await stage.rows("SELECT usage FROM limit_usage")] == [3]


async def test_inbound_messages_lose_text_and_media_then_leave(
    stage: Stage, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    for days in (89, 91, 731):
        await stage.execute(INBOUND, organisation=stage.organisation, days=days)
    await run(stage)
    listed = (await client.get("/api/messages/", headers=bearer("delivery", stage.organisation))).json()
    assert listed["pagination"]["total"] == 2
    assert sorted((one["text"], one["media_urls"]) for one in listed["results"]) == [
        ("", []),
        ("Hello", ["http://x/1"]),
    ]


async def test_rules_and_an_erasure_find_their_rows_by_indexes(
    stage: Stage, explain: Callable[..., Awaitable[list[tuple[str, str]]]]
) -> None:
    async with stage.database.all_tenants() as session:
        await session.execute(text("SET LOCAL enable_seqscan = on"))  # so that a plan shows what PostgreSQL prefers
        for statement in FILL:
            await session.execute(text(statement))

        async def apply() -> None:
            for rule in RULES:
                days: Any = rule.days_of(stage.make_settings())
                await session.execute(rule.statement(), {"days": days, "batch": BATCH})
            found = await erasure.find_messages(session, "+61453000009", None, [("org_1", 7)])
            assert found == ([], [])
            await erasure.erase_messages(session, [5])
            await erasure.erase_inbound(session, [5])

        plans = await explain(session, apply)
        await session.rollback()
    assert len(plans) == len(RULES) + 5
    for position, (statement, plan) in enumerate(plans):
        assert "Seq Scan on" not in plan, f"{statement}\n{plan}"
        assert "Sort" not in plan or position >= len(RULES), f"{statement}\n{plan}"  # a rule reads in order
