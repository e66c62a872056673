"""Use cases of media."""

from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid, TooLarge
from delivery.media import repository
from delivery.media.rules import MAX_BYTES, kind_of
from delivery.media.schemas import MediaOut
from delivery.storage.base import Storage


async def store_upload(session: AsyncSession, caller: Caller, storage: Storage, content: bytes) -> MediaOut:
    """Keeps an image and its record. Raises TooLarge, Invalid under `file`, StorageFault.

    The file first, before the session's first statement: a file without a record harms nobody.
    """
    if len(content) > MAX_BYTES:
        raise TooLarge(f"A file may have {MAX_BYTES:,} bytes at most.")
    kind = kind_of(content)
    if kind is None:
        raise Invalid.field("file", "Send a PNG, JPEG or GIF image.")
    name = f"{uuid4()}{kind.extension}"
    url = await storage.put(name, content, kind.content_type)
    media = MediaOut(url=url, file_id=name, size=len(content), content_type=kind.content_type)
    await repository.add(session, caller, media, storage.name)
    return media
