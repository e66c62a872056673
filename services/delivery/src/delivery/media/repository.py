"""Every statement on media."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.caller import Caller
from delivery.media.rules import StoredFile
from delivery.media.schemas import MediaOut

_TIMES = Columns(id="bigint", check_at="timestamptz")
_IDS = Columns(id="bigint")

_ADD = text(
    """
    INSERT INTO media (organisation_id, name, storage, content_type, size, created_by)
    VALUES (:organisation, :name, :storage, :content_type, :size, :user)
    """
)
# The claim is a lease of an hour: files of a process that ends are checked again after it.
_CLAIM_DUE = text(
    """
    UPDATE media SET check_at = now() + interval '1 hour'
    WHERE id = ANY(ARRAY(SELECT id FROM media WHERE check_at <= now() AND storage = :storage
                         ORDER BY check_at LIMIT :batch FOR UPDATE SKIP LOCKED))
    RETURNING id, name, created_at
    """
)
_POSTPONE = text(
    f"""
    UPDATE media m SET check_at = n.check_at FROM {_TIMES.unnest("n")} WHERE m.id = n.id
    """
)
_DELETE = text(f"DELETE FROM media WHERE id = ANY({_IDS.array('id')})")


async def add(session: AsyncSession, caller: Caller, media: MediaOut, storage: str) -> None:
    """Add the record of a file that the storage has."""
    await session.execute(
        _ADD,
        {
            "organisation": caller.organisation_id,
            "user": caller.user_id,
            "name": media.file_id,
            "storage": storage,
            "content_type": media.content_type,
            "size": media.size,
        },
    )


async def claim_due_all_tenants(session: AsyncSession, storage: str, batch: int) -> list[StoredFile]:
    """Claim at most `batch` files of the storage that are due for a check; they are due again in an hour."""
    rows = await session.execute(_CLAIM_DUE, {"storage": storage, "batch": batch})
    return [StoredFile(*row) for row in rows]


async def postpone_all_tenants(session: AsyncSession, times: Mapping[int, datetime]) -> None:
    """Set id → time of the next check."""
    await session.execute(_POSTPONE, _TIMES.bind_tuples(times.items()))


async def delete_all_tenants(session: AsyncSession, ids: Collection[int]) -> None:
    """Delete the records of files that the storage has deleted."""
    await session.execute(_DELETE, {"id": list(ids)})
