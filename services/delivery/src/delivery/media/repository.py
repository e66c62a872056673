"""Every statement on media."""

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
