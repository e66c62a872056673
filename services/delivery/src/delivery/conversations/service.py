"""Use cases of conversations: what went to and came from phones."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page, Paginated, Pagination
from delivery.conversations import repository
from delivery.conversations.schemas import Filters, MessageOut, show
from delivery.limits import service as limits
from delivery.organisations import service as organisations


async def page_messages(
    session: AsyncSession, organisation_id: str, filters: Filters, page: Page
) -> Paginated[MessageOut]:
    """The organisation's messages, the newest first. Days are those of its zone. Raises OrganisationClosed."""
    await organisations.refuse_closed(session)
    start = end = None
    if filters.first or filters.last:
        zone = ZoneInfo(await limits.get_zone(session, organisation_id))
        start = _midnight(filters.first, zone)
        end = _midnight(filters.last + timedelta(days=1), zone) if filters.last else None
    rows, total = await repository.page(session, filters, start, end, page)
    return Paginated(results=[show(row) for row in rows], pagination=Pagination.of(page, total))


def _midnight(day: date | None, zone: ZoneInfo) -> datetime | None:
    return datetime.combine(day, time(), zone).astimezone(UTC) if day else None
