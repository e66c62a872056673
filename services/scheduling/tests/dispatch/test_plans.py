"""Plans at 200,000 rows, with statistics from when the tables were empty: nothing reads a whole table."""

import json

import asyncpg
import pytest
from sqlalchemy import make_url, text

from scheduling.dispatch import repository as dispatch
from scheduling.batches import repository as groups
from scheduling.outcomes import repository as outcomes
from scheduling.recipients import repository as recipients
from scheduling.schedules import repository as schedules
from scheduling.stats import repository as stats

SINGLES = """
    INSERT INTO schedules (organisation_id, kind, status, contact_id, phone, text, scheduled_time, format, dispatch_number,
                           sweep_at)
    SELECT 'org_' || g % 20, 'single', (ARRAY['pending', 'processing', 'sent', 'sent'])[g % 4 + 1], g, '+61491000999',
           'x', now() + (g - 50000) * interval '10 seconds', 'sms', 1,
           CASE WHEN g % 4 = 1 THEN now() + g * interval '1 second' END
    FROM generate_series(1, 100000) g
"""
PARENTS = """
    INSERT INTO schedules (organisation_id, kind, status, group_id, text, scheduled_time, next_due_at, format, message_count,
                           fanned_out_at)
    SELECT 'org_' || g % 20, 'batch', (ARRAY['processing', 'sent'])[g % 2 + 1], 1, 'x', now() - g * interval '1 hour',
           now() - g * interval '1 hour', 'sms', 1000, now()
    FROM generate_series(1, 100) g
"""
CHILDREN = """
    INSERT INTO schedules (organisation_id, kind, status, batch_id, contact_id, phone)
    SELECT p.organisation_id, 'batch_message',
           CASE p.status WHEN 'sent' THEN 'sent' ELSE (ARRAY['pending', 'processing', 'sent'])[g % 3 + 1] END, p.id, g,
           '+61491000999'
    FROM schedules p, generate_series(1, 1000) g WHERE p.kind = 'batch'
"""
PAGE = {"limit": 50, "offset": 100}
DAYS = {"start": None, "end": None, "statuses": ["pending", "processing", "sent"], "group_id": None}


@pytest.fixture
async def filled(database, run_sql, scheduling_url):
    owner = make_url(scheduling_url).set(username="scheduling_owner")
    connection = await asyncpg.connect(owner.render_as_string(hide_password=False))
    try:
        await connection.execute("ALTER TABLE schedules SET (autovacuum_enabled = false)")
        await connection.execute("ANALYZE schedules")
        for statement in (SINGLES, PARENTS, CHILDREN):
            await run_sql(statement)
        yield
        await connection.execute("ALTER TABLE schedules RESET (autovacuum_enabled)")
    finally:
        await connection.close()


def scans(node):
    if node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "schedules":
        yield node
    for child in node.get("Plans", []):
        yield from scans(child)


async def plan(session, statement, values):
    told = (await session.execute(text(f"EXPLAIN (FORMAT JSON) {statement.text}"), values)).scalar_one()
    return (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]


async def test_no_statement_of_the_main_road_or_of_a_list_reads_the_whole_table(filled, database, run_sql):
    ids = list(range(1, 501))
    runs = {"ids": ids, "runs": [1] * 500, "after_s": 20}
    parent = (await run_sql("SELECT max(id) AS id FROM schedules WHERE kind = 'batch'"))[0].id
    frozen = {"formats": ["sms"] * 500, "times": [None] * 500, "ids": ids}
    heard = {"versions": [1] * 500, "organisations": ["org_1"] * 500, "runs": [1] * 500, "statuses": ["sent"] * 500}
    heard |= {"attempts": [1] * 500, "providers": ["log"] * 500, "sent_times": [None] * 500, "ids": ids}
    heard |= {"delivered_times": [None] * 500, "next_attempts": [None] * 500}
    heard |= {"categories": [None] * 500, "errors": [None] * 500}
    across = [
        (dispatch._START_BATCHES, {}),
        (dispatch._CLAIM_SINGLES, {"batch": 500}),
        (dispatch._CLAIM_MESSAGES, {"batch": 500, "window": 5000}),
        (dispatch._PENDING, {"ids": ids}),
        (dispatch._HAND_OVER, {**frozen, "parts": [1] * 500, "sweep_after_s": 20}),
        (dispatch._END, {**frozen, "categories": [None] * 500, "errors": [None] * 500}),
        (recipients._APPLY_TO_SCHEDULES, {"ids": ids, "opted_out": "x"}),
        (recipients._APPLY_TO_CONTACTS, {"organisations": ["org_1"] * 5, "ids": ids[:5], "opted_out": "x"}),
        (recipients._FAIL_BARE, {"organisations": ["org_1"] * 5, "ids": ids[:5], "opted_out": "x"}),
        (outcomes._SETTLE, heard),
        (outcomes._LOCK_BATCHES, heard),
        (outcomes._CORRECT, heard),
        (outcomes._OVERDUE, {"batch": 500}),
        (outcomes._LATER, runs),
        (outcomes._COUNT_SWEEP, runs),
        (groups._CLAIM_FAN_OUT, {}),
        (groups._CLAIM_RETRY, {}),
        (schedules._SETTLE_CANCELLED, {"batch_id": parent, "batch": 5000}),
        (schedules._RETRY_MESSAGES, {"batch_id": parent, "batch": 5000}),
        (groups._LOCK_ENDING, {}),
        (groups._END_FINISHED, {"ids": [parent], "none_sent": "x", "nobody": "x"}),
        (groups._END_AGAIN, {"ids": [parent], "none_sent": "x", "nobody": "x"}),
        (groups._ENDED_RESERVATIONS, {}),
        (groups._KNOWN_RESERVATIONS, {"references": []}),
    ]
    mine = [
        (schedules._LOCK, {"id": 5}),
        (schedules._FIND, {"id": 5}),
        (schedules._COUNT, DAYS),
        (schedules._PAGE, {**DAYS, **PAGE}),
        (schedules._COUNT_OF_CONTACT, {"contact_id": 5}),
        (schedules._PAGE_OF_CONTACT, {"contact_id": 5, **PAGE}),
        (schedules._COUNT_FAILED, {"batch_id": parent, "include_unknown": False}),
        (schedules._PAGE_MESSAGES, {"batch_id": parent, **PAGE}),
        (groups._COUNT, DAYS),
        (groups._PAGE, {**DAYS, **PAGE}),
        (groups._COUNT_MESSAGES, {"id": parent}),
        (groups._TAKE_AWAY, {"id": parent}),
        (groups._HAS_PENDING, {"id": parent}),
        (stats._COUNT, {"zone": "UTC", "start": None, "end": None}),
    ]
    whole = []
    for sessions, statements in ((database.all_tenants, across), (lambda: database.tenant("org_1"), mine)):
        async with sessions() as session:
            for statement, values in statements:
                whole += [(statement.text, node) for node in scans(await plan(session, statement, values))]
    assert not whole


async def test_organisations_and_their_batches_take_turns(database, run_sql):
    await run_sql(PARENTS)
    await run_sql(CHILDREN.replace("generate_series(1, 1000)", "generate_series(1, 200)"))
    await run_sql("DELETE FROM schedules WHERE kind = 'batch_message' AND organisation_id = 'org_1' AND contact_id > 5")
    async with database.all_tenants() as session:
        ids = await dispatch.claim_messages_all_tenants(session, 500, 5000)
        found = await session.execute(
            text("SELECT organisation_id, count(*) AS n FROM schedules WHERE id = ANY(:ids) GROUP BY 1"), {"ids": ids}
        )
    claimed = {row.organisation_id: row.n for row in found}
    assert len(claimed) == 10
    assert max(claimed.values()) == 50
