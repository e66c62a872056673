"""The organisation's clock, and whether it is open."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import Invalid
from common.events import OrganisationChanged, SettingsChanged
from scheduling.errors import OrganisationClosed
from scheduling.organisations import repository, rules
from scheduling.organisations.rules import day_bounds, today

__all__ = [
    "day_bounds",
    "follow_closing",
    "follow_settings",
    "get_zone",
    "get_zone_of_request",
    "read_time",
    "today",
]

log = structlog.get_logger()

DEFAULT_ZONE = ZoneInfo("Australia/Adelaide")

VersionedT = TypeVar("VersionedT", OrganisationChanged, SettingsChanged)


async def get_zone(session: AsyncSession, organisation_id: str) -> ZoneInfo:
    """The organisation's time zone. Raises OrganisationClosed."""
    found = await repository.find(session, organisation_id)
    if found is None:
        return DEFAULT_ZONE
    if found.closed:
        raise OrganisationClosed
    return rules.find_zone(found.timezone) or DEFAULT_ZONE


async def get_zone_of_request(session: AsyncSession, organisation_id: str, tz: str | None) -> ZoneInfo:
    """The zone that `?tz=` names, else the organisation's. Raises Invalid under `tz`."""
    own = await get_zone(session, organisation_id)
    if not tz:
        return own
    zone = rules.find_zone(tz)
    if zone is None:
        raise Invalid.field("tz", "Unknown time zone: use a name like Australia/Adelaide.")
    return zone


def read_time(moment: datetime, zone: ZoneInfo, field: str) -> datetime:
    """A time of a body in UTC. Raises Invalid under `field` for one outside of the calendar."""
    try:
        return rules.to_utc(moment, zone)
    except OverflowError:
        raise Invalid.field(field, "Enter a time within the next 366 days.") from None


async def follow_settings(session: AsyncSession, events: Sequence[SettingsChanged]) -> None:
    """Takes over time zones; the newest version wins."""
    for event in events:
        if rules.find_zone(event.timezone) is None:
            log.error("settings name an unknown zone", organisation=event.organisation_id)
    await repository.set_zones_all_tenants(session, _newest(events))


async def follow_closing(session: AsyncSession, events: Sequence[OrganisationChanged]) -> list[str]:
    """Takes over closings and openings; the newest version wins. Returns the organisations closed by it."""
    return await repository.set_closed_all_tenants(session, _newest(events))


def _newest(events: Sequence[VersionedT]) -> list[VersionedT]:
    newest: dict[str, VersionedT] = {}
    for event in sorted(events, key=lambda event: event.version):
        newest[event.organisation_id] = event
    return [newest[organisation_id] for organisation_id in sorted(newest)]
