"""Statements on organisations: their time zone, and whether they are closed."""

# ruff: noqa: S608 (the statements are put together from constants of this file)

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.events import OrganisationChanged, SettingsChanged
from common.statements import ORGANISATION, Statement, Tenant

_ZONE = Columns(organisation_id="text", timezone="text", version="bigint")
_CLOSED = Columns(organisation_id="text", closed="boolean", version="bigint")

_READ = Statement(
    f"""
    SELECT g.timezone, g.closed FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT timezone, closed FROM organisations WHERE organisation_id = o.id) g
    """
)
_SET_ZONES = text(
    f"""
    INSERT INTO organisations AS o (organisation_id, timezone, timezone_version)
    SELECT * FROM {_ZONE.unnest("new")}
    ON CONFLICT (organisation_id) DO UPDATE
    SET timezone = excluded.timezone, timezone_version = excluded.timezone_version
    WHERE o.timezone_version < excluded.timezone_version
    """
)
_SET_CLOSED = text(
    f"""
    INSERT INTO organisations AS o (organisation_id, closed, closed_version)
    SELECT * FROM {_CLOSED.unnest("new")}
    ON CONFLICT (organisation_id) DO UPDATE
    SET closed = excluded.closed, closed_version = excluded.closed_version
    WHERE o.closed_version < excluded.closed_version
    RETURNING organisation_id, closed
    """
)


class Organisation(NamedTuple):
    """The stored state of an organisation."""

    timezone: str
    closed: bool


async def read(tenant: Tenant) -> Organisation | None:
    """Return the tenant's organisation, or None when no event about it has arrived."""
    row = await tenant.fetch_row(_READ)
    return None if row is None else Organisation(timezone=row["timezone"], closed=row["closed"])


async def set_zones_all_tenants(session: AsyncSession, events: Collection[SettingsChanged]) -> None:
    """Store time zones that are newer than the stored ones. `events` has each organisation once."""
    await session.execute(_SET_ZONES, _ZONE.bind(events))


async def set_closed_all_tenants(session: AsyncSession, events: Collection[OrganisationChanged]) -> list[str]:
    """Store whether organisations are closed where that is newer. `events` has each organisation once.

    Return the organisations that these events closed.
    """
    rows = await session.execute(_SET_CLOSED, _CLOSED.bind(events))
    return [row.organisation_id for row in rows if row.closed]
