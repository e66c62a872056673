"""Every statement on organisations."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import OrganisationChanged

# A tenant's session sees its own row alone.
_IS_CLOSED = text("SELECT coalesce((SELECT closed FROM organisations), false)")
_KEEP = text(
    """
    INSERT INTO organisations AS o (organisation_id, closed, version)
    SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:closed AS boolean[]), CAST(:versions AS bigint[]))
    ON CONFLICT (organisation_id) DO UPDATE SET closed = EXCLUDED.closed, version = EXCLUDED.version
        WHERE o.version < EXCLUDED.version
    """
)


async def is_closed(session: AsyncSession) -> bool:
    """Whether the session's organisation is closed; one that was never heard of is open."""
    return bool(await session.scalar(_IS_CLOSED))


async def keep_all_tenants(session: AsyncSession, changes: Sequence[OrganisationChanged]) -> None:
    """Keeps open or closed where it is newer than what is known; each organisation once."""
    await session.execute(
        _KEEP,
        {
            "organisations": [change.organisation_id for change in changes],
            "closed": [change.closed for change in changes],
            "versions": [change.version for change in changes],
        },
    )
