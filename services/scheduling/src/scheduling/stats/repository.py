"""Counts of messages by month."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

# A child has a time in its own row once it was handed over; before that it goes by its parent's.
_COUNT = text(
    """
    SELECT month, status, format, count(*) AS messages, coalesce(sum(message_parts), 0) AS parts
    FROM (
        SELECT to_char(s.scheduled_time AT TIME ZONE :zone, 'YYYY-MM') AS month, s.status, s.format, s.message_parts
        FROM schedules s
        WHERE s.kind IN ('single', 'child') AND s.scheduled_time >= :start AND s.scheduled_time < :end
          AND s.status <> 'cancelled' AND NOT (s.kind = 'child' AND s.status = 'pending')
        UNION ALL
        SELECT to_char(coalesce(c.scheduled_time, p.scheduled_time) AT TIME ZONE :zone, 'YYYY-MM'), c.status,
               coalesce(c.format, p.format), NULL
        FROM schedules p JOIN schedules c ON c.kind = 'child' AND c.parent_id = p.id
        WHERE p.kind = 'parent' AND p.scheduled_time >= :start AND p.scheduled_time < :end
          AND (c.status = 'pending' AND p.status <> 'cancelled' OR c.status = 'failed' AND c.scheduled_time IS NULL)
    ) AS counted
    GROUP BY month, status, format
    """
)


async def count(session: AsyncSession, zone: str, start: datetime, end: datetime) -> Sequence[Row[Any]]:
    """(month, status, format, messages, parts) of what lies from `start` until before `end`."""
    return (await session.execute(_COUNT, {"zone": zone, "start": start, "end": end})).all()
