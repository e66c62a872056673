"""Statements that apply delivery's reports to schedules."""

# ruff: noqa: S608 (the statements are put together from constants of this file)

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from scheduling.models import REPORTED, SUCCESSFUL, Dispatch, sql_list
from scheduling.outcomes.rules import Outcome

_OUTCOME = Columns(
    id="bigint",
    organisation_id="text",
    dispatch_number="int",
    version="bigint",
    status="text",
    attempts="int",
    provider="text",
    sent_time="timestamptz",
    delivered_time="timestamptz",
    next_attempt_at="timestamptz",
    failure_category="text",
    error="text",
)
_DISPATCH = Columns(id="bigint", dispatch_number="int")

# The highest (dispatch number, version) wins. An outcome does not apply to a schedule that a retry has reopened
# (pending), or that was cancelled before its dispatch.
# PostgreSQL estimates ten elements for an array from a query, so it uses the index even with stale statistics.
_NEWER = f"""
    {_OUTCOME.unnest("o")}
    WHERE s.id = o.id AND s.id = ANY(ARRAY(SELECT unnest({_OUTCOME.array("id")})))
      AND s.organisation_id = o.organisation_id AND s.kind <> 'batch' AND s.dispatch_number = o.dispatch_number
      AND s.outcome_version < o.version
"""
_APPLY = f"""
    UPDATE schedules s
    SET status = o.status, outcome_version = o.version, attempts = o.attempts,
        provider = coalesce(o.provider, s.provider), sent_time = coalesce(o.sent_time, s.sent_time),
        delivered_time = o.delivered_time, next_attempt_at = o.next_attempt_at, failure_category = o.failure_category,
        error = o.error, sweep_at = CASE WHEN o.status = 'processing' THEN s.sweep_at END, updated_by = NULL,
        updated_at = now()
    FROM {_NEWER}
"""
# Most outcomes are the first of their dispatch, or a receipt for a sent message. They do not change the status of a
# batch. CASE keeps PostgreSQL from reading the indexes of all schedules in processing and of all that ended, in order
# to intersect them with the few that are given.
_APPLY_USUAL = text(
    f"""
    {_APPLY}
      AND CASE WHEN s.status = 'processing' THEN true
               ELSE s.status IN ({sql_list(SUCCESSFUL)}) AND o.status IN ({sql_list(SUCCESSFUL)}) END
    """
)
# A late receipt may change sent to failed or back. A message with an outcome does not become open again.
_CORRECTS = f"CASE WHEN s.status IN ({sql_list(REPORTED)}) THEN o.status <> 'processing' ELSE false END"
_CORRECT = text(f"{_APPLY} AND {_CORRECTS} RETURNING s.batch_id")
# A retry locks the batch before it reopens failed messages, so a correction locks the batch first, too.
_LOCK_BATCHES = text(
    f"""
    SELECT id FROM schedules
    WHERE id = ANY(ARRAY(SELECT s.batch_id FROM schedules s, {_NEWER} AND {_CORRECTS})) ORDER BY id FOR UPDATE
    """
)
_OVERDUE = text(
    """
    SELECT id, dispatch_number FROM schedules
    WHERE status = 'processing' AND kind <> 'batch' AND sweep_at <= now()
    ORDER BY sweep_at LIMIT :batch
    """
)
_STILL_OPEN = f"""
    SELECT s.id FROM schedules s
    JOIN {_DISPATCH.unnest("d")} ON d.id = s.id AND d.dispatch_number = s.dispatch_number
    WHERE s.status = 'processing' AND s.kind <> 'batch'
    ORDER BY s.id FOR UPDATE OF s
"""
_POSTPONE_SWEEP = text(
    f"""
    UPDATE schedules
    SET sweep_at = now() + make_interval(secs => CAST(:after_s AS double precision) * 2 ^ sweep_count)
    WHERE id = ANY(ARRAY({_STILL_OPEN}))
    """
)
_COUNT_SWEEP = text(
    f"""
    UPDATE schedules
    SET sweep_count = sweep_count + 1,
        sweep_at = now() + make_interval(secs => CAST(:after_s AS double precision) * 2 ^ (sweep_count + 1))
    WHERE id = ANY(ARRAY({_STILL_OPEN}))
    RETURNING id, sweep_count
    """
)


class Swept(NamedTuple):
    """A schedule that delivery did not find, and how often that has happened to this dispatch."""

    schedule_id: int
    sweep_count: int


async def apply_all_tenants(session: AsyncSession, outcomes: Sequence[Outcome]) -> list[int]:
    """Apply outcomes, one for each schedule. Return the batches, now locked, of messages that were corrected."""
    values = _bind(outcomes)
    usual = await session.execute(_APPLY_USUAL, values)
    if usual.rowcount == len(outcomes):  # type: ignore[attr-defined]
        return []
    await session.execute(_LOCK_BATCHES, values)
    batch_ids = (await session.scalars(_CORRECT, values)).all()
    return sorted({batch_id for batch_id in batch_ids if batch_id is not None})


def _bind(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """Return the bind values of outcomes."""
    return _OUTCOME.bind(outcomes, id=[outcome.schedule_id for outcome in outcomes])


async def find_overdue_all_tenants(session: AsyncSession, batch: int) -> list[Dispatch]:
    """Return dispatches that have been in processing for too long, the longest first."""
    rows = await session.execute(_OVERDUE, {"batch": batch})
    return [Dispatch(row.id, row.dispatch_number) for row in rows]


async def postpone_sweep_all_tenants(session: AsyncSession, dispatches: Sequence[Dispatch], after_s: float) -> None:
    """Ask about these dispatches again after the same time as before."""
    await session.execute(_POSTPONE_SWEEP, {**_DISPATCH.bind_tuples(dispatches), "after_s": after_s})


async def count_sweep_all_tenants(session: AsyncSession, dispatches: Sequence[Dispatch], after_s: float) -> list[Swept]:
    """Count a sweep of these dispatches, and ask again after twice the time. Return those that are still open."""
    rows = await session.execute(_COUNT_SWEEP, {**_DISPATCH.bind_tuples(dispatches), "after_s": after_s})
    return [Swept(row.id, row.sweep_count) for row in rows]
