"""What scheduling keeps of an organisation."""

from collections.abc import Sequence

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import OrganisationChanged, SettingsChanged

_FIND = text("SELECT timezone, closed FROM organisations WHERE organisation_id = :organisation")
_SET_ZONES = text(
    """
    INSERT INTO organisations AS o (organisation_id, timezone, timezone_version)
    SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:zones AS text[]), CAST(:versions AS bigint[]))
    ON CONFLICT (organisation_id) DO UPDATE
    SET timezone = excluded.timezone, timezone_version = excluded.timezone_version
    WHERE o.timezone_version < excluded.timezone_version
    """
)
_SET_CLOSED = text(
    """
    INSERT INTO organisations AS o (organisation_id, closed, closed_version)
    SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:closed AS boolean[]), CAST(:versions AS bigint[]))
    ON CONFLICT (organisation_id) DO UPDATE
    SET closed = excluded.closed, closed_version = excluded.closed_version
    WHERE o.closed_version < excluded.closed_version
    RETURNING organisation_id, closed
    """
)


async def find(session: AsyncSession, organisation_id: str) -> Row[tuple[str, bool]] | None:
    """(timezone, closed), or None when nothing was heard of the organisation."""
    return (await session.execute(_FIND, {"organisation": organisation_id})).one_or_none()


async def set_zones_all_tenants(session: AsyncSession, events: Sequence[SettingsChanged]) -> None:
    """Takes over newer settings; `events` has each organisation once."""
    await session.execute(
        _SET_ZONES,
        {
            "organisations": [event.organisation_id for event in events],
            "zones": [event.timezone for event in events],
            "versions": [event.version for event in events],
        },
    )


async def set_closed_all_tenants(session: AsyncSession, events: Sequence[OrganisationChanged]) -> list[str]:
    """Takes over newer states; `events` has each organisation once. Returns those that are closed by it."""
    rows = await session.execute(
        _SET_CLOSED,
        {
            "organisations": [event.organisation_id for event in events],
            "closed": [event.closed for event in events],
            "versions": [event.version for event in events],
        },
    )
    return [row.organisation_id for row in rows if row.closed]
