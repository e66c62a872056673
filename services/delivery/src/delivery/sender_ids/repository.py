"""Every statement on sender IDs. Their key is the canonical form (`rules.canonical_sender_id`)."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from delivery.models import SenderIdRow, columns, read_rows

_OWNERS = text("SELECT sender_id, organisation_id FROM sender_ids WHERE sender_id = ANY(CAST(:sender_ids AS text[]))")
_LIST = text(
    f"SELECT {columns(SenderIdRow)} FROM sender_ids ORDER BY organisation_id, sender_id"  # noqa: S608  # constants
)
# The update changes nothing, but it makes the statement return the owner also when there is one already.
_ASSIGN = text(
    """
    INSERT INTO sender_ids (sender_id, organisation_id) VALUES (:sender_id, :organisation)
    ON CONFLICT (sender_id) DO UPDATE SET sender_id = excluded.sender_id RETURNING organisation_id
    """
)
_REMOVE = text("DELETE FROM sender_ids WHERE sender_id = :sender_id RETURNING organisation_id")


async def owners(session: AsyncSession, sender_ids: Collection[str]) -> dict[str, str]:
    """Return sender ID → organisation, for the sender IDs that are assigned and that the session may see."""
    rows = await session.execute(_OWNERS, {"sender_ids": list(sender_ids)})
    return {row.sender_id: row.organisation_id for row in rows}


async def list_all_tenants(session: AsyncSession) -> list[SenderIdRow]:
    """Return every assigned sender ID, by organisation."""
    return read_rows(SenderIdRow, await session.execute(_LIST))


async def assign_all_tenants(session: AsyncSession, sender_id: str, organisation_id: str) -> str:
    """Assign a sender ID that has no owner. Return the organisation that owns it then."""
    return str(await session.scalar(_ASSIGN, {"sender_id": sender_id, "organisation": organisation_id}))


async def remove_all_tenants(session: AsyncSession, sender_id: str) -> str | None:
    """Remove a sender ID from its organisation. Return that organisation, or None when it had none."""
    removed: str | None = await session.scalar(_REMOVE, {"sender_id": sender_id})
    return removed
