"""Counts of messages by month."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

# A child has a time in its own row once it was handed over; before that it goes by its parent's. A retry may come some
# time after its parent.
_COUNT = text(
    """
    SELECT to_char(time AT TIME ZONE :zone, 'YYYY-MM') AS month, status, format, count(*) AS messages,
           coalesce(sum(message_parts), 0) AS parts
    FROM (
        SELECT s.scheduled_time AS time, s.status, s.format, s.message_parts
        FROM schedules s
        WHERE s.kind = 'single' AND s.scheduled_time >= :start AND s.scheduled_time < :end AND s.status <> 'cancelled'
        UNION ALL
        SELECT coalesce(c.scheduled_time, p.scheduled_time), c.status, coalesce(c.format, p.format), c.message_parts
        FROM schedules p JOIN schedules c ON c.kind = 'child' AND c.parent_id = p.id
        WHERE p.kind = 'parent' AND p.scheduled_time >= CAST(:start AS timestamptz) - interval '366 days'
          AND p.scheduled_time < :end AND c.status <> 'cancelled'
          AND NOT (c.status = 'pending' AND p.status = 'cancelled')
    ) AS counted
    WHERE time >= :start AND time < :end
    GROUP BY month, status, format
    """
)


async def count(session: AsyncSession, zone: str, start: datetime, end: datetime) -> Sequence[Row[Any]]:
    """(month, status, format, messages, parts) of what lies from `start` until before `end`."""
    return (await session.execute(_COUNT, {"zone": zone, "start": start, "end": end})).all()
