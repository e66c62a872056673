"""Claims of what is due. The database's clock decides; every claim is one transaction with its events."""

# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import Category
from scheduling.dispatch.rules import Due

_START_PARENTS = text(
    """
    UPDATE schedules SET status = 'processing', updated_by = NULL, updated_at = now()
    WHERE id = ANY(ARRAY(
        SELECT id FROM schedules WHERE kind = 'parent' AND status = 'pending' AND scheduled_time <= now()
        ORDER BY scheduled_time, id LIMIT 100 FOR UPDATE SKIP LOCKED))
    """
)
_CLAIM_SINGLES = text(
    """
    SELECT id FROM schedules WHERE kind = 'single' AND status = 'pending' AND scheduled_time <= now()
    ORDER BY scheduled_time, id LIMIT :batch FOR UPDATE SKIP LOCKED
    """
)
# Organisations take turns, and their batches; a batch gets its share of the claim, and no more than its window leaves.
# A batch whose pending children are all for later has no turn: such batches would keep the others waiting.
# Parents are locked, shared, so that whoever cancels one knows what was still handed over.
_CLAIM_CHILDREN = text(
    """
    WITH candidates AS MATERIALIZED (
        SELECT p.id, p.organisation_id, p.wake_at FROM schedules p
        WHERE p.kind = 'parent' AND p.status IN ('pending', 'processing') AND p.wake_at <= now()
          AND EXISTS (SELECT FROM schedules c WHERE c.kind = 'child' AND c.parent_id = p.id AND c.status = 'pending'
                      AND (c.scheduled_time <= now() OR c.scheduled_time IS NULL AND p.status = 'processing'))
    ), turns AS MATERIALIZED (
        SELECT id FROM candidates
        ORDER BY row_number() OVER (PARTITION BY organisation_id ORDER BY wake_at, id), wake_at LIMIT 50
    ), parents AS MATERIALIZED (
        SELECT id, status FROM schedules
        WHERE id = ANY(ARRAY(SELECT id FROM turns)) AND status IN ('pending', 'processing')
        FOR SHARE SKIP LOCKED
    )
    SELECT c.id
    FROM parents p
    CROSS JOIN LATERAL (
        SELECT least(greatest(:batch / (SELECT count(*) FROM turns), 10), :window - count(*)) AS room
        FROM (SELECT FROM schedules w WHERE w.kind = 'child' AND w.parent_id = p.id AND w.status = 'processing'
              LIMIT :window) AS under_way
    ) r
    CROSS JOIN LATERAL (
        SELECT c.id FROM schedules c
        WHERE c.kind = 'child' AND c.parent_id = p.id AND c.status = 'pending'
          AND (c.scheduled_time <= now() OR c.scheduled_time IS NULL AND p.status = 'processing')
        ORDER BY c.id LIMIT r.room FOR UPDATE SKIP LOCKED
    ) c
    """
)
# The planner takes such an array for ten long, and goes by the index whatever it thinks of the table.
_IDS = "ARRAY(SELECT unnest(CAST(:ids AS bigint[])))"
_READ = f"""
    SELECT v.id, v.organisation_id, v.parent_id, v.contact_id, v.phone, v.first_name, v.last_name, v.company, v.text,
           v.format, v.subject, v.media_url, v.scheduled_time, v.run, v.hold, v.request_id, coalesce(o.closed, false)
    FROM shown_schedules v LEFT JOIN organisations o ON o.organisation_id = v.organisation_id
    WHERE v.id = ANY({_IDS}) AND v.status = :status
    ORDER BY v.scheduled_time, v.id
"""
_PENDING = text(_READ.replace(":status", "'pending'"))
_UNDER_WAY = text(_READ.replace(":status", "'processing'"))
_HAND_OVER = text(
    f"""
    UPDATE schedules s
    SET status = 'processing', run = s.run + 1, outcome_version = 0, message_parts = d.parts, format = d.format,
        scheduled_time = d.scheduled_time, swept = 0, updated_by = NULL,
        sweep_at = now() + make_interval(secs => CAST(:sweep_after_s AS double precision)), updated_at = now()
    FROM unnest(CAST(:ids AS bigint[]), CAST(:parts AS int[]), CAST(:formats AS text[]),
                CAST(:times AS timestamptz[])) AS d (id, parts, format, scheduled_time)
    WHERE s.id = d.id AND s.id = ANY({_IDS})
    """
)
_END = text(
    f"""
    UPDATE schedules s
    SET status = CASE WHEN d.category IS NULL THEN 'cancelled' ELSE 'failed' END, failure_category = d.category,
        error = d.error, format = d.format, scheduled_time = d.scheduled_time, updated_by = NULL,
        updated_at = now()
    FROM unnest(CAST(:ids AS bigint[]), CAST(:categories AS text[]), CAST(:errors AS text[]),
                CAST(:formats AS text[]), CAST(:times AS timestamptz[]))
         AS d (id, category, error, format, scheduled_time)
    WHERE s.id = d.id AND s.id = ANY({_IDS})
    """
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A schedule that is due and will not go out: failed, or, without a category, cancelled."""

    schedule: Due
    category: Category | None
    error: str | None


async def start_parents_all_tenants(session: AsyncSession) -> None:
    """Batches whose time has come are in processing, before their children can be claimed."""
    await session.execute(_START_PARENTS)


async def claim_singles_all_tenants(session: AsyncSession, batch: int) -> list[int]:
    """Locks due single schedules, the earliest first, and returns their ids."""
    return list((await session.scalars(_CLAIM_SINGLES, {"batch": batch})).all())


async def claim_children_all_tenants(session: AsyncSession, batch: int, window: int) -> list[int]:
    """Locks due children in turns and returns their ids; at most `window` of a batch are in processing."""
    return list((await session.scalars(_CLAIM_CHILDREN, {"batch": batch, "window": window})).all())


async def read_pending_all_tenants(session: AsyncSession, ids: Sequence[int]) -> list[Due]:
    """The claimed schedules that are still pending."""
    return [Due(*row) for row in await session.execute(_PENDING, {"ids": ids})]


async def read_under_way_all_tenants(session: AsyncSession, ids: Sequence[int]) -> list[Due]:
    """The schedules of these that are in processing."""
    return [Due(*row) for row in await session.execute(_UNDER_WAY, {"ids": ids})]


async def hand_over_all_tenants(
    session: AsyncSession, schedules: Sequence[Due], parts: Sequence[int], sweep_after_s: float
) -> None:
    """Begins the next run of each, with what it costs; its time and format stand from now on."""
    given = {"parts": list(parts), "sweep_after_s": sweep_after_s}
    await session.execute(_HAND_OVER, {**_frozen(schedules), **given})


async def end_all_tenants(session: AsyncSession, ended: Sequence[Ended]) -> None:
    """Ends what is due and will not go out."""
    given = {"categories": [e.category for e in ended], "errors": [e.error for e in ended]}
    await session.execute(_END, {**_frozen([e.schedule for e in ended]), **given})


def _frozen(schedules: Sequence[Due]) -> dict[str, list[Any]]:
    return {
        "ids": [schedule.id for schedule in schedules],
        "formats": [schedule.format for schedule in schedules],
        "times": [schedule.scheduled_time for schedule in schedules],
    }
