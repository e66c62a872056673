"""Statements that claim due schedules. The database's clock decides what is due.

A claim and its events are one transaction.
"""

# ruff: noqa: S608 (the statements are put together from constants of this file)

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.events import ScheduleDue
from scheduling.dispatch.rules import DueSchedule, Refusal
from scheduling.models import OPEN, Address, Content, sql_list

_IDS = Columns(id="bigint")
_DISPATCHED = Columns(id="bigint", parts="int", format="text", scheduled_time="timestamptz")
_REFUSED = Columns(id="bigint", failure_category="text", error="text", format="text", scheduled_time="timestamptz")

_START_BATCHES = text(
    """
    UPDATE schedules SET status = 'processing', updated_by = NULL, updated_at = now()
    WHERE id = ANY(ARRAY(
        SELECT id FROM schedules WHERE kind = 'batch' AND status = 'pending' AND scheduled_time <= now()
        ORDER BY scheduled_time, id LIMIT 100 FOR UPDATE SKIP LOCKED))
    """
)
_CLAIM_SINGLES = text(
    """
    SELECT id FROM schedules WHERE kind = 'single' AND status = 'pending' AND scheduled_time <= now()
    ORDER BY scheduled_time, id LIMIT :batch FOR UPDATE SKIP LOCKED
    """
)
# Organisations take turns, and so do the batches of one organisation. A batch gets its share of the claim, but no more
# than its window leaves. A claim costs nearly the same for few messages and for many, so a full window must first have
# room for `refill` messages. A batch whose pending messages are all for later gets no turn, because such batches would
# keep the others waiting.
# A cancellation locks its batch FOR UPDATE. FOR KEY SHARE excludes it, so it knows which messages were dispatched, but
# not the fan-out, which locks FOR NO KEY UPDATE.
_CLAIM_MESSAGES = text(
    f"""
    WITH candidates AS MATERIALIZED (
        SELECT b.id, b.organisation_id, b.next_due_at FROM schedules b
        WHERE b.kind = 'batch' AND b.status IN ({sql_list(OPEN)}) AND b.next_due_at <= now()
          AND EXISTS (SELECT FROM schedules m
                      WHERE m.kind = 'batch_message' AND m.batch_id = b.id AND m.status = 'pending'
                        AND (m.scheduled_time <= now() OR m.scheduled_time IS NULL AND b.status = 'processing'))
    ), turns AS MATERIALIZED (
        SELECT id FROM candidates
        ORDER BY row_number() OVER (PARTITION BY organisation_id ORDER BY next_due_at, id), next_due_at LIMIT 50
    ), batches AS MATERIALIZED (
        SELECT id, organisation_id, status FROM schedules
        WHERE id = ANY(ARRAY(SELECT id FROM turns)) AND status IN ({sql_list(OPEN)})
        FOR KEY SHARE SKIP LOCKED
    )
    SELECT m.id
    FROM batches b
    CROSS JOIN LATERAL (
        SELECT CASE WHEN :window - total < :refill THEN 0
                    ELSE least(greatest(:batch / (SELECT count(*) FROM turns), 10), :window - total) END AS room
        FROM (SELECT coalesce(sum(c.total), 0) AS total FROM batch_counts c
              WHERE c.organisation_id = b.organisation_id AND c.batch_id = b.id AND c.status = 'processing'
             ) AS in_processing
    ) r
    CROSS JOIN LATERAL (
        SELECT m.id FROM schedules m
        WHERE m.kind = 'batch_message' AND m.batch_id = b.id AND m.status = 'pending'
          AND (m.scheduled_time <= now() OR m.scheduled_time IS NULL AND b.status = 'processing')
        ORDER BY m.id LIMIT r.room FOR UPDATE SKIP LOCKED
    ) m
    """
)
# The earliest time at which something may be due. A batch that is being sent is due all the time.
_NEXT_DUE = text(
    f"""
    SELECT extract(epoch FROM least(
        (SELECT scheduled_time FROM schedules WHERE kind = 'single' AND status = 'pending'
         AND scheduled_time IS NOT NULL ORDER BY scheduled_time LIMIT 1),
        (SELECT scheduled_time FROM schedules WHERE kind = 'batch' AND status = 'pending'
         AND scheduled_time IS NOT NULL ORDER BY scheduled_time LIMIT 1),
        (SELECT next_due_at FROM schedules WHERE kind = 'batch' AND status IN ({sql_list(OPEN)})
         ORDER BY next_due_at LIMIT 1)
    ) - clock_timestamp())
    """
)
# PostgreSQL estimates ten elements for an array from a query, so it uses the index even with stale statistics.
_READ = f"""
    SELECT v.id, v.organisation_id, v.batch_id, v.contact_id, v.phone, v.fields, v.text, v.format, v.subject,
           v.media_url, v.scheduled_time, v.dispatch_number, v.reservation, v.request_id,
           coalesce(o.closed, false) AS closed
    FROM shown_schedules v LEFT JOIN organisations o ON o.organisation_id = v.organisation_id
    WHERE v.id = ANY(ARRAY(SELECT unnest({_IDS.array("id")}))) AND v.status = :status
    ORDER BY v.scheduled_time, v.id
"""
_READ_PENDING = text(_READ.replace(":status", "'pending'"))
_READ_PROCESSING = text(_READ.replace(":status", "'processing'"))
_MARK_DISPATCHED = text(
    f"""
    UPDATE schedules s
    SET status = 'processing', dispatch_number = s.dispatch_number + 1, outcome_version = 0, message_parts = d.parts,
        format = d.format, scheduled_time = d.scheduled_time, sweep_count = 0, updated_by = NULL,
        sweep_at = now() + make_interval(secs => CAST(:sweep_after_s AS double precision)), updated_at = now()
    FROM {_DISPATCHED.unnest("d")}
    WHERE s.id = d.id AND s.id = ANY(ARRAY(SELECT unnest({_DISPATCHED.array("id")})))
    """
)
_REFUSE = text(
    f"""
    UPDATE schedules s
    SET status = CASE WHEN r.failure_category IS NULL THEN 'cancelled' ELSE 'failed' END,
        failure_category = r.failure_category, error = r.error, format = r.format, scheduled_time = r.scheduled_time,
        updated_by = NULL, updated_at = now()
    FROM {_REFUSED.unnest("r")}
    WHERE s.id = r.id AND s.id = ANY(ARRAY(SELECT unnest({_REFUSED.array("id")})))
    """
)


async def start_batches_all_tenants(session: AsyncSession) -> None:
    """Move batches that are due to processing, so that their messages can be claimed."""
    await session.execute(_START_BATCHES)


async def seconds_to_next_all_tenants(session: AsyncSession) -> float | None:
    """Return the seconds until something may be due, negative when it is, or None when nothing is pending."""
    seconds = await session.scalar(_NEXT_DUE)
    return None if seconds is None else float(seconds)


async def claim_singles_all_tenants(session: AsyncSession, batch: int) -> list[int]:
    """Lock due single schedules, the earliest first, and return their ids."""
    return list((await session.scalars(_CLAIM_SINGLES, {"batch": batch})).all())


async def claim_messages_all_tenants(session: AsyncSession, batch: int, window: int) -> list[int]:
    """Lock due messages of batches in turns and return their ids. At most `window` of a batch are in processing."""
    values = {"batch": batch, "window": window, "refill": min(batch, window // 10)}
    return list((await session.scalars(_CLAIM_MESSAGES, values)).all())


async def read_pending_all_tenants(session: AsyncSession, ids: Sequence[int]) -> list[DueSchedule]:
    """Return the claimed schedules that are still pending."""
    return [_due(row) for row in await session.execute(_READ_PENDING, {"id": list(ids)})]


async def read_processing_all_tenants(session: AsyncSession, ids: Sequence[int]) -> list[DueSchedule]:
    """Return those of the schedules that are in processing."""
    return [_due(row) for row in await session.execute(_READ_PROCESSING, {"id": list(ids)})]


async def mark_dispatched_all_tenants(
    session: AsyncSession, events: Sequence[ScheduleDue], sweep_after_s: float
) -> None:
    """Move the schedules of these events to processing, and freeze their time, format and parts."""
    values = _DISPATCHED.bind(events, id=[event.schedule_id for event in events])
    await session.execute(_MARK_DISPATCHED, {**values, "sweep_after_s": sweep_after_s})


async def refuse_all_tenants(session: AsyncSession, refusals: Sequence[Refusal]) -> None:
    """Fail or cancel due schedules that are not sent."""
    schedules = [refusal.schedule for refusal in refusals]
    values = _REFUSED.bind(
        refusals,
        id=[schedule.id for schedule in schedules],
        format=[schedule.content.format for schedule in schedules],
        scheduled_time=[schedule.scheduled_time for schedule in schedules],
    )
    await session.execute(_REFUSE, values)


def _due(row: Row[Any]) -> DueSchedule:
    return DueSchedule(
        id=row.id,
        organisation_id=row.organisation_id,
        batch_id=row.batch_id,
        address=Address(phone=row.phone, contact_id=row.contact_id, fields=row.fields),
        content=Content(text=row.text, format=row.format, media_url=row.media_url, subject=row.subject),
        scheduled_time=row.scheduled_time,
        dispatch_number=row.dispatch_number,
        reservation=row.reservation,
        request_id=row.request_id,
        is_organisation_closed=row.closed,
    )
