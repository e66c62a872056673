"""The statement that counts messages by month."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from scheduling.models import ScheduleStatus
from scheduling.stats.rules import StatusCount

# A message of a batch has a time in its own row once it was dispatched. Before that, it counts by the time of its
# batch. A retry may have a time long after that of the batch.
_COUNT = text(
    """
    SELECT to_char(time AT TIME ZONE :zone, 'YYYY-MM') AS month, status, format, count(*) AS messages,
           coalesce(sum(message_parts), 0) AS parts
    FROM (
        SELECT s.scheduled_time AS time, s.status, s.format, s.message_parts
        FROM schedules s
        WHERE s.kind = 'single' AND s.scheduled_time >= :start AND s.scheduled_time < :end AND s.status <> 'cancelled'
        UNION ALL
        SELECT coalesce(m.scheduled_time, b.scheduled_time), m.status, coalesce(m.format, b.format), m.message_parts
        FROM schedules b JOIN schedules m ON m.kind = 'batch_message' AND m.batch_id = b.id
        WHERE b.kind = 'batch' AND b.scheduled_time >= CAST(:start AS timestamptz) - interval '366 days'
          AND b.scheduled_time < :end AND m.status <> 'cancelled'
          AND NOT (m.status = 'pending' AND b.status = 'cancelled')
    ) AS counted
    WHERE time >= :start AND time < :end
    GROUP BY month, status, format
    """
)


async def count(session: AsyncSession, zone: str, start: datetime, end: datetime) -> list[StatusCount]:
    """Return the counts of messages from `start` until before `end`, by month of the zone, status and format."""
    return [
        StatusCount(
            month=row.month,
            status=ScheduleStatus(row.status),
            format=row.format,
            messages=row.messages,
            parts=row.parts,
        )
        for row in await session.execute(_COUNT, {"zone": zone, "start": start, "end": end})
    ]
