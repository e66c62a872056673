"""The statements by which schedules follow delivery's word."""

# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from scheduling.outcomes.rules import Outcome

_COLUMNS = (
    *("ids", "organisations", "runs", "versions", "statuses", "attempts", "providers"),
    *("sent_times", "delivered_times", "next_attempts", "categories", "errors"),
)
# The newest (run, version) wins. A run that was opened again (pending), or cancelled before it began, listens to none.
# The planner takes an array from a query for ten long, and goes by the index whatever it thinks of the table.
_HEARD = """
    unnest(CAST(:ids AS bigint[]), CAST(:organisations AS text[]), CAST(:runs AS int[]), CAST(:versions AS bigint[]),
           CAST(:statuses AS text[]), CAST(:attempts AS int[]), CAST(:providers AS text[]),
           CAST(:sent_times AS timestamptz[]), CAST(:delivered_times AS timestamptz[]),
           CAST(:next_attempts AS timestamptz[]), CAST(:categories AS text[]), CAST(:errors AS text[]))
        AS h (id, organisation_id, run, version, status, attempts, provider, sent_time, delivered_time,
              next_attempt_at, category, error)
    WHERE s.id = h.id AND s.id = ANY(ARRAY(SELECT unnest(CAST(:ids AS bigint[]))))
      AND s.organisation_id = h.organisation_id AND s.kind <> 'parent' AND s.run = h.run
      AND s.outcome_version < h.version
"""
_APPLY = f"""
    UPDATE schedules s
    SET status = h.status, outcome_version = h.version, attempts = h.attempts,
        provider = coalesce(h.provider, s.provider), sent_time = coalesce(h.sent_time, s.sent_time),
        delivered_time = h.delivered_time, next_attempt_at = h.next_attempt_at, failure_category = h.category,
        error = h.error, sweep_at = CASE WHEN h.status = 'processing' THEN s.sweep_at END, updated_by = NULL,
        updated_at = now()
    FROM {_HEARD}
"""
# What fails after all, or is no failure after all: its batch may end otherwise. What had an outcome is open no more.
_TURNS = "h.status <> 'processing' AND s.status IN ('sent', 'delivered', 'failed')"
_SETTLE = text(
    f"""
    {_APPLY}
      AND (s.status = 'processing' OR s.status IN ('sent', 'delivered') AND h.status IN ('sent', 'delivered'))
    """
)
_CORRECT = text(f"{_APPLY} AND {_TURNS} RETURNING s.parent_id")
# Whoever opens failed messages again locks their batch first, and so does whoever corrects them.
_LOCK_PARENTS = text(
    f"""
    SELECT id FROM schedules
    WHERE id = ANY(ARRAY(SELECT s.parent_id FROM schedules s, {_HEARD} AND {_TURNS})) ORDER BY id FOR UPDATE
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


async def apply_all_tenants(session: AsyncSession, outcomes: Sequence[Outcome]) -> list[int]:
    """Takes over outcomes, one a schedule. Returns the batches, locked, whose messages turned after all."""
    columns = zip(*(astuple(outcome) for outcome in outcomes), strict=True)
    given = dict(zip(_COLUMNS, map(list, columns), strict=True))
    settled = await session.execute(_SETTLE, given)
    if settled.rowcount == len(outcomes):  # type: ignore[attr-defined]
        return []
    await session.execute(_LOCK_PARENTS, given)
    parents = (await session.scalars(_CORRECT, given)).all()
    return sorted({parent_id for parent_id in parents if parent_id is not None})


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
