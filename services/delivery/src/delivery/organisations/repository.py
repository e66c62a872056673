"""Every statement on organisations."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.events import OrganisationChanged

_CHANGES = Columns(organisation_id="text", closed="boolean", version="bigint")

# A tenant session sees only the row of its own organisation.
_IS_CLOSED = text("SELECT coalesce((SELECT closed FROM organisations), false)")
_SAVE = text(
    f"""
    INSERT INTO organisations AS o ({", ".join(_CHANGES.names)})
    SELECT * FROM {_CHANGES.unnest("n")}
    ON CONFLICT (organisation_id) DO UPDATE SET closed = EXCLUDED.closed, version = EXCLUDED.version
        WHERE o.version < EXCLUDED.version
    """
)


async def is_closed(session: AsyncSession) -> bool:
    """Return whether the organisation of a tenant session is closed. An organisation without a row is open."""
    return bool(await session.scalar(_IS_CLOSED))


async def save_all_tenants(session: AsyncSession, changes: Iterable[OrganisationChanged]) -> None:
    """Save whether organisations are closed, where a change is newer than the row; each organisation once."""
    await session.execute(_SAVE, _CHANGES.bind(changes))
