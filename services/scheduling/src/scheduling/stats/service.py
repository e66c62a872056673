"""Statistics of an organisation's messages."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from scheduling.clients import Neighbours
from scheduling.organisations.service import day_bounds, get_zone, today
from scheduling.stats import repository
from scheduling.stats.rules import last_months, next_month
from scheduling.stats.schemas import MonthlyStats, Stats


async def get_monthly_stats(session: AsyncSession, neighbours: Neighbours, caller: Caller) -> Stats:
    """The last 12 months in the organisation's zone. Raises Unavailable without delivery, who knows the limits."""
    limits = await neighbours.delivery.get_limits(caller)
    zone = await get_zone(session, caller.organisation_id)
    months = last_months(today(zone, datetime.now(UTC)))
    start, end = day_bounds(months[-1], next_month(months[0]) - timedelta(days=1), zone)
    assert start is not None
    assert end is not None
    stats = {f"{month:%Y-%m}": MonthlyStats(month=f"{month:%Y-%m}") for month in months}
    for row in await repository.count(session, zone.key, start, end):
        if row.month in stats:
            _add(stats[row.month], row.status, row.format, row.messages, row.parts)
    return Stats(monthly_stats=list(stats.values()), sms_limit=limits.sms_limit, mms_limit=limits.mms_limit)


def _add(month: MonthlyStats, status: str, message_format: str, messages: int, parts: int) -> None:
    if status in ("pending", "processing"):
        month.pending += messages
    elif status == "failed":
        month.failed += messages
    elif message_format == "mms":
        month.mms_sent += messages
    else:
        month.sms_sent += messages
        month.sms_parts += parts
