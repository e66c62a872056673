"""Every statement on media."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from delivery.media.schemas import MediaOut

_ADD = text(
    """
    INSERT INTO media (organisation_id, name, storage, content_type, size, created_by)
    VALUES (:organisation, :name, :storage, :content_type, :size, :user)
    """
)
# The claim is its own lease: whoever dies after it leaves the files to the next look.
_CLAIM_DUE = text(
    """
    UPDATE media SET check_at = now() + interval '1 hour'
    WHERE id = ANY(ARRAY(SELECT id FROM media WHERE check_at <= now() AND storage = :storage
                         ORDER BY check_at LIMIT :batch FOR UPDATE SKIP LOCKED))
    RETURNING id, name, created_at
    """
)
_POSTPONE = text(
    """
    UPDATE media SET check_at = n.next_check
    FROM unnest(CAST(:ids AS bigint[]), CAST(:times AS timestamptz[])) AS n (media_id, next_check)
    WHERE id = n.media_id
    """
)
_REMOVE = text("DELETE FROM media WHERE id = ANY(CAST(:ids AS bigint[]))")


class Kept(NamedTuple):
    """A file that lies in the storage."""

    id: int
    name: str
    created_at: datetime


async def add(session: AsyncSession, caller: Caller, media: MediaOut, storage: str) -> None:
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


async def claim_due_all_tenants(session: AsyncSession, storage: str, batch: int) -> Sequence[Kept]:
    """At most `batch` files of the storage that are due, due again in an hour. Skips what another holds."""
    rows = await session.execute(_CLAIM_DUE, {"storage": storage, "batch": batch})
    return [Kept(*row) for row in rows]


async def postpone_all_tenants(session: AsyncSession, times: Mapping[int, datetime]) -> None:
    """Id → when it is due again."""
    await session.execute(_POSTPONE, {"ids": list(times), "times": list(times.values())})


async def remove_all_tenants(session: AsyncSession, ids: Collection[int]) -> None:
    """Forgets files that were removed."""
    await session.execute(_REMOVE, {"ids": list(ids)})
