"""Count an organisation's messages by month."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from scheduling.clients.delivery import Limits
from scheduling.clients.services import OtherServices
from scheduling.organisations.rules import day_bounds, today
from scheduling.organisations.service import get_zone
from scheduling.stats import repository
from scheduling.stats.rules import MonthlyCounts, add_up, last_months, next_month


async def get_monthly_stats(
    session: AsyncSession, services: OtherServices, caller: Caller
) -> tuple[list[MonthlyCounts], Limits]:
    """Return the counts of the last 12 months in the organisation's zone, and the limits. Raises Unavailable."""
    limits = await services.delivery.get_limits(caller)
    zone = await get_zone(session)
    months = last_months(today(zone, datetime.now(UTC)))
    start, end = day_bounds(months[-1], next_month(months[0]) - timedelta(days=1), zone)
    assert start is not None
    assert end is not None
    return add_up(months, await repository.count(session, zone.key, start, end)), limits
