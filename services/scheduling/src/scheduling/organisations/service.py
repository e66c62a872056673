"""The time zone of an organisation, and whether it is closed."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import tenant_of
from common.errors import Invalid
from common.events import OrganisationChanged, SettingsChanged
from common.statements import Tenant
from common.versions import newest
from scheduling.errors import OrganisationClosed
from scheduling.organisations import repository, rules

log = structlog.get_logger()

DEFAULT_ZONE = ZoneInfo("Australia/Adelaide")


async def read_zone(tenant: Tenant, tz: str | None = None) -> ZoneInfo:
    """Return the zone that `?tz=` names, else the organisation's. Raises OrganisationClosed, or Invalid under `tz`."""
    organisation = await repository.read(tenant)
    if organisation is not None and organisation.closed:
        raise OrganisationClosed
    if tz:
        zone = rules.find_zone(tz)
        if zone is None:
            raise Invalid.field(
                "tz", "Enter UTC or the IANA name of a place's time zone, for example Australia/Adelaide."
            )
        return zone
    return (organisation and rules.find_zone(organisation.timezone)) or DEFAULT_ZONE


async def get_zone(session: AsyncSession) -> ZoneInfo:
    """Return the time zone of the session's organisation. Raises OrganisationClosed."""
    return await read_zone(tenant_of(session))


def read_time(moment: datetime, zone: ZoneInfo, field: str) -> datetime:
    """Return a time of a body in UTC. Raises Invalid under `field` for a time outside of the calendar."""
    try:
        return rules.to_utc(moment, zone)
    except OverflowError:
        raise Invalid.field(field, "Enter a time within the next 366 days.") from None


async def apply_settings_changed(session: AsyncSession, events: Sequence[SettingsChanged]) -> None:
    """Store time zones. The newest version wins."""
    for event in events:
        if rules.find_zone(event.timezone) is None:
            log.error("unknown time zone in settings", organisation=event.organisation_id, timezone=event.timezone)
    changes = newest(events, key=lambda event: event.organisation_id, version=lambda event: event.version)
    await repository.set_zones_all_tenants(session, changes.values())


async def store_closed(session: AsyncSession, events: Sequence[OrganisationChanged]) -> list[str]:
    """Store which organisations are closed. The newest version wins. Return those that these events closed."""
    changes = newest(events, key=lambda event: event.organisation_id, version=lambda event: event.version)
    return await repository.set_closed_all_tenants(session, changes.values())
