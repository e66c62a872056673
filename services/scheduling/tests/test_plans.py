"""Plans with 200,000 rows and the statistics of empty tables: no statement reads the whole table."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg
import pytest
from sqlalchemy import TextClause, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactState
from common.statements import Statement
from scheduling.batches import repository as batches
from scheduling.dispatch import repository as dispatch
from scheduling.metrics import READINGS
from scheduling.outcomes import repository as outcomes
from scheduling.recipients import repository as recipients
from scheduling.retention import RULES
from scheduling.retries import repository as retries
from scheduling.schedules import repository as schedules
from scheduling.stats import repository as stats
from services.scheduling.tests.stage import Stage

SINGLES = """
    INSERT INTO schedules (organisation_id, kind, status, contact_id, phone, text, scheduled_time, format,
                           dispatch_number, sweep_at)
    SELECT 'org_' || g % 20, 'single', (ARRAY['pending', 'processing', 'sent', 'sent'])[g % 4 + 1], g, '+61491000999',
           'x', now() + (g - 50000) * interval '10 seconds', 'sms', 1,
           CASE WHEN g % 4 = 1 THEN now() + g * interval '1 second' END
    FROM generate_series(1, 100000) g
"""
BATCHES = """
    INSERT INTO schedules (organisation_id, kind, status, group_id, text, scheduled_time, next_due_at, format,
                           message_count, fanned_out_at)
    SELECT 'org_' || g % 20, 'batch', (ARRAY['processing', 'sent'])[g % 2 + 1], 1, 'x', now() - g * interval '1 hour',
           now() - g * interval '1 hour', 'sms', 1000, now()
    FROM generate_series(1, 100) g
"""
MESSAGES = """
    INSERT INTO schedules (organisation_id, kind, status, batch_id, batch_position, contact_id, phone)
    SELECT b.organisation_id, 'batch_message',
           CASE b.status WHEN 'sent' THEN 'sent' ELSE (ARRAY['pending', 'processing', 'sent'])[g % 3 + 1] END,
           b.id, g, g, '+61491000999'
    FROM schedules b, generate_series(1, 1000) g WHERE b.kind = 'batch'
"""
Explained = Sequence[tuple[TextClause, dict[str, Any]]]
IDS = list(range(1, 501))
NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
async def batch_id(stage: Stage, postgres_url: str) -> AsyncIterator[int]:
    """Insert the rows without new statistics, and return the id of a batch."""
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute("ALTER TABLE scheduling.schedules SET (autovacuum_enabled = false)")
        # Statistics of an earlier test's rows survive TRUNCATE, and ANALYZE of an empty table keeps them. If all those
        # rows were of one organisation, PostgreSQL would rightly read the whole table for it.
        await connection.execute("DELETE FROM pg_statistic WHERE starelid = 'scheduling.schedules'::regclass")
        await connection.execute("ANALYZE scheduling.schedules")
        for statement in (SINGLES, BATCHES, MESSAGES):
            await stage.rows(statement)
        yield (await stage.rows("SELECT max(id) AS id FROM schedules WHERE kind = 'batch'"))[0].id
        await connection.execute("ALTER TABLE scheduling.schedules RESET (autovacuum_enabled)")
    finally:
        await connection.close()


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan that read the whole table."""
    if node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "schedules":
        yield node
    for inner in node.get("Plans", []):
        yield from scans(inner)


async def find_scans(session: AsyncSession, statements: Explained) -> list[tuple[str, dict[str, Any]]]:
    """Return the statements whose plans read the whole table, with those nodes."""
    found = []
    for statement, values in statements:
        answer = (await session.execute(text(f"EXPLAIN (FORMAT JSON) {statement.text}"), values)).scalar_one()
        plans = json.loads(answer) if isinstance(answer, str) else answer
        found += [(statement.text, node) for node in scans(plans[0]["Plan"])]
    return found


async def test_no_statement_reads_the_whole_table(stage: Stage, batch_id: int, scheduling_url: str) -> None:
    async with stage.database.all_tenants() as session:
        await session.execute(text("SET LOCAL enable_seqscan = on"))  # so that a plan shows what PostgreSQL prefers
        assert not await find_scans(session, worker_statements(batch_id))
    async with stage.database.tenant("org_1") as session:
        assert not await find_scans(session, api_statements(batch_id))
    assert not await find_scans_of_single(scheduling_url)


def indexes(node: dict[str, Any]) -> Iterator[str]:
    """Yield the indexes that a plan reads."""
    if "Index Name" in node:
        yield node["Index Name"]
    for inner in node.get("Plans", []):
        yield from indexes(inner)


async def test_outcomes_are_applied_without_reading_what_ended_or_is_in_processing(stage: Stage, batch_id: int) -> None:
    statements = (outcomes._APPLY_USUAL, outcomes._LOCK_BATCHES, outcomes._CORRECT)
    async with stage.database.all_tenants() as session:
        for statement, values in worker_statements(batch_id):
            if statement in statements:
                answer = (await session.execute(text(f"EXPLAIN (FORMAT JSON) {statement.text}"), values)).scalar_one()
                plans = json.loads(answer) if isinstance(answer, str) else answer
                assert set(indexes(plans[0]["Plan"])) <= {"schedules_pkey"}, statement.text


@pytest.mark.usefixtures("batch_id")
async def test_claim_of_messages_does_not_read_those_that_are_done(stage: Stage) -> None:
    async with stage.database.all_tenants() as session:
        values = {"batch": 500, "window": 5000, "refill": 500}
        plan = "\n".join((await session.scalars(text(f"EXPLAIN {dispatch._CLAIM_MESSAGES.text}"), values)).all())
    assert plan.count("using schedules_batch_messages on schedules m") == 2, plan
    assert plan.count("(status = 'pending'::text))") == 2, plan


async def test_the_kept_plan_of_the_insertion_of_messages_uses_indexes(
    stage: Stage, kept_plan: Callable[..., Awaitable[list[str]]]
) -> None:
    members = [
        ContactState(contact_id=n, version=1, phone="+61491000999", is_active=True, opt_out=False) for n in range(500)
    ]
    async with stage.database.all_tenants() as session:

        async def fill() -> None:
            for statement in (SINGLES, BATCHES, MESSAGES):
                await session.execute(text(statement))

        plan = await kept_plan(session, partial(batches.add_messages, session, 1, members), fill)
        await session.rollback()
    used = [line for line in plan if " on schedules" in line and "Insert" not in line]
    assert len(used) == 2
    assert all("schedules_pkey" in line or "schedules_batch_positions" in line for line in used), "\n".join(plan)


async def find_scans_of_single(scheduling_url: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the single statements of a tenant whose plans read the whole table, with those nodes."""
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    statements: list[tuple[Statement, tuple[Any, ...]]] = [
        (schedules._READ, (5,)),
        (schedules._WITH_STATUSES, (50, 100, ["pending", "sent"], first, last)),
        (schedules.DAYS.first_page, (50, first, last)),
        (schedules.DAYS.statement, (50, 100, 0, None, None, -1, first, last)),
    ]
    tenant = make_url(scheduling_url).set(username="scheduling_tenant")
    connection = await asyncpg.connect(tenant.render_as_string(hide_password=False))
    found = []
    try:
        for statement, values in statements:
            answer = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement.sql}", "org_1", *values)
            found += [(statement.sql, node) for node in scans(json.loads(answer)[0]["Plan"])]
    finally:
        await connection.close()
    return found


def worker_statements(batch_id: int) -> Explained:
    """Return the statements of the loops and consumers, with values."""
    contacts = recipients._CONTACT.bind_tuples([("org_1", contact_id) for contact_id in IDS[:5]])
    outcome = ("org_1", 1, 1, "sent", 1, "log", None, None, None, None, None)
    reported = outcomes._OUTCOME.bind_tuples([(schedule_id, *outcome) for schedule_id in IDS])
    swept = {**outcomes._DISPATCH.bind_tuples([(schedule_id, 1) for schedule_id in IDS]), "after_s": 20}
    finished = {"id": [batch_id], **batches._ERRORS}
    dispatched = dispatch._DISPATCHED.bind_tuples([(schedule_id, 1, "sms", NOW) for schedule_id in IDS])
    return [
        (dispatch._START_BATCHES, {}),
        (dispatch._CLAIM_SINGLES, {"batch": 500}),
        (dispatch._CLAIM_MESSAGES, {"batch": 500, "window": 5000, "refill": 500}),
        (dispatch._READ_PENDING, {"id": IDS}),
        (dispatch._READ_PROCESSING, {"id": IDS}),
        (dispatch._MARK_DISPATCHED, {**dispatched, "sweep_after_s": 20}),
        (dispatch._REFUSE, dispatch._REFUSED.bind_tuples([(id_, None, None, "sms", NOW) for id_ in IDS])),
        (recipients._APPLY_TO_SCHEDULES, {"id": IDS, "opted_out": "x"}),
        (recipients._APPLY_TO_CONTACTS, {**contacts, "opted_out": "x"}),
        (recipients._FAIL_WITHOUT_CONTACT, {**contacts, "opted_out": "x"}),
        (outcomes._APPLY_USUAL, reported),
        (outcomes._LOCK_BATCHES, reported),
        (outcomes._CORRECT, reported),
        (outcomes._OVERDUE, {"batch": 500}),
        (outcomes._POSTPONE_SWEEP, swept),
        (outcomes._COUNT_SWEEP, swept),
        (batches._CLAIM_FAN_OUT, {}),
        (batches._LOCK_FINISHED, {}),
        (batches._FINISH, finished),
        (batches._RECOMPUTE, finished),
        (batches._RESERVATIONS_TO_RELEASE, {}),
        (batches._KNOWN_RESERVATIONS, {"references": []}),
        *((text(reading.statement), {}) for reading in READINGS),
        *((rule.statement(), {"days": 90, "batch": 1000}) for rule in RULES),
        # What PostgreSQL executes for the foreign key of each deleted row.
        (
            text("SELECT 1 FROM ONLY schedules x WHERE batch_id = :id AND organisation_id = 'o' FOR KEY SHARE"),
            {"id": 5},
        ),
        (retries._CLAIM, {}),
        (retries._CANCEL_PENDING, {"batch_id": batch_id, "limit": 5000}),
        (retries._REOPEN_NEXT, {"batch_id": batch_id, "limit": 5000}),
        (retries._COPY_CONTENT, {"batch_id": batch_id}),
        (retries._REOPEN_BATCH, {"batch_id": batch_id}),
    ]


def api_statements(batch_id: int) -> Explained:
    """Return the statements of requests, with values."""
    days = {"start": None, "end": None}
    page = {"limit": 50, "offset": 100}
    return [
        (schedules._LOCK, {"id": 5}),
        (schedules._FIND, {"id": 5}),
        (schedules._COUNT_OF_CONTACT, {"contact_id": 5}),
        (schedules._PAGE_OF_CONTACT, {"contact_id": 5, **page}),
        (schedules._HAS_MESSAGE, {"batch_id": batch_id, "contact_id": 5}),
        (batches._COUNT, {**days, "group_id": None}),
        (batches._PAGE, {**days, "group_id": None, **page}),
        (batches._COUNT_MESSAGES, {"id": batch_id}),
        (batches._PAGE_MESSAGES, {"id": batch_id, **page}),
        (batches._CLEAR_OWN, {"id": batch_id}),
        (batches._HAS_PENDING, {"id": batch_id}),
        (retries._COUNT_FAILED, {"batch_id": batch_id, "include_unknown": False}),
        (stats._COUNT, {"zone": "UTC", "start": None, "end": None}),
    ]
