"""The statements by which schedules follow delivery's word."""

# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import MessageFailed, MessageSent

# The newest (run, version) wins. A run that was opened again (pending), or cancelled before it began, listens to none.
# The planner takes an array from a query for ten long, and goes by the index whatever it thinks of the table.
_APPLY = """
    UPDATE schedules s
    SET status = h.status, outcome_version = h.version, attempts = h.attempts,
        provider = coalesce(h.provider, s.provider), sent_time = coalesce(h.sent_time, s.sent_time),
        failure_category = h.category, error = h.error, sweep_at = NULL, updated_by = NULL, updated_at = now()
    FROM unnest(CAST(:ids AS bigint[]), CAST(:organisations AS text[]), CAST(:runs AS int[]),
                CAST(:versions AS bigint[]), CAST(:statuses AS text[]), CAST(:attempts AS int[]),
                CAST(:providers AS text[]), CAST(:sent_times AS timestamptz[]), CAST(:categories AS text[]),
                CAST(:errors AS text[]))
        AS h (id, organisation_id, run, version, status, attempts, provider, sent_time, category, error)
    WHERE s.id = h.id AND s.id = ANY(ARRAY(SELECT unnest(CAST(:ids AS bigint[]))))
      AND s.organisation_id = h.organisation_id AND s.kind <> 'parent' AND s.run = h.run
      AND s.outcome_version < h.version
"""
_SETTLE = text(f"{_APPLY} AND s.status = 'processing'")
_CORRECT = text(f"{_APPLY} AND s.status IN ('sent', 'delivered', 'failed') RETURNING s.parent_id")
_REOPEN = text(
    """
    UPDATE schedules SET status = 'processing'
    WHERE id = ANY(CAST(:ids AS bigint[])) AND kind = 'parent' AND status IN ('sent', 'failed')
    """
)
_OVERDUE = text(
    """
    SELECT id, run FROM schedules
    WHERE status = 'processing' AND kind <> 'parent' AND sweep_at <= now()
    ORDER BY sweep_at LIMIT :batch
    """
)
_STILL_OPEN = """
    SELECT s.id FROM schedules s
    JOIN unnest(CAST(:ids AS bigint[]), CAST(:runs AS int[])) AS r (id, run) ON r.id = s.id AND r.run = s.run
    WHERE s.status = 'processing' AND s.kind <> 'parent'
    ORDER BY s.id FOR UPDATE OF s
"""
_LATER = text(
    f"""
    UPDATE schedules SET sweep_at = now() + make_interval(secs => CAST(:after_s AS double precision) * 2 ^ swept)
    WHERE id = ANY(ARRAY({_STILL_OPEN}))
    """
)
_COUNT_SWEEP = text(
    f"""
    UPDATE schedules
    SET swept = swept + 1,
        sweep_at = now() + make_interval(secs => CAST(:after_s AS double precision) * 2 ^ (swept + 1))
    WHERE id = ANY(ARRAY({_STILL_OPEN}))
    RETURNING id, swept
    """
)


async def apply_all_tenants(session: AsyncSession, events: Sequence[MessageSent | MessageFailed]) -> list[int]:
    """Takes over outcomes, one a schedule. Returns the parents of children that had an outcome before."""
    given: dict[str, list[Any]] = {
        "ids": [event.schedule_id for event in events],
        "organisations": [event.organisation_id for event in events],
        "runs": [event.run for event in events],
        "versions": [event.version for event in events],
        "statuses": ["sent" if isinstance(event, MessageSent) else "failed" for event in events],
        "attempts": [event.attempts for event in events],
        "providers": [event.provider for event in events],
        "sent_times": [event.sent_time if isinstance(event, MessageSent) else None for event in events],
        "categories": [event.category if isinstance(event, MessageFailed) else None for event in events],
        "errors": [event.error if isinstance(event, MessageFailed) else None for event in events],
    }
    settled = await session.execute(_SETTLE, given)
    if settled.rowcount == len(events):  # type: ignore[attr-defined]
        return []
    parents = (await session.scalars(_CORRECT, given)).all()
    return sorted({parent_id for parent_id in parents if parent_id is not None})


async def reopen_parents_all_tenants(session: AsyncSession, parent_ids: Sequence[int]) -> None:
    """Ended batches whose children were corrected: their end is worked out again."""
    await session.execute(_REOPEN, {"ids": parent_ids})


async def find_overdue_all_tenants(session: AsyncSession, batch: int) -> list[tuple[int, int]]:
    """(id, run) of what has been in processing for too long, the longest first."""
    rows = await session.execute(_OVERDUE, {"batch": batch})
    return [(row.id, row.run) for row in rows]


async def sweep_later_all_tenants(session: AsyncSession, runs: Sequence[tuple[int, int]], after_s: float) -> None:
    """Looks at these runs again after as long as last time."""
    await session.execute(_LATER, _runs(runs, after_s))


async def count_sweep_all_tenants(
    session: AsyncSession, runs: Sequence[tuple[int, int]], after_s: float
) -> list[tuple[int, int]]:
    """Looks at these runs again after twice as long as last time; (id, how often by now) of those still open."""
    rows = await session.execute(_COUNT_SWEEP, _runs(runs, after_s))
    return [(row.id, row.swept) for row in rows]


def _runs(runs: Sequence[tuple[int, int]], after_s: float) -> dict[str, Any]:
    return {"ids": [schedule_id for schedule_id, _ in runs], "runs": [run for _, run in runs], "after_s": after_s}
