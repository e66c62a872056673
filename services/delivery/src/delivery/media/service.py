"""Use cases of media."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid, NotFound, TooLarge
from delivery.media import repository
from delivery.media.rules import MAX_BYTES, Links, StoredFile, content_type_of, kind_of
from delivery.media.schemas import MediaOut
from delivery.organisations import service as organisations
from delivery.storage.base import Storage


async def store_upload(
    session: AsyncSession, caller: Caller, content: bytes, *, storage: Storage, links: Links
) -> MediaOut:
    """Store an image and its record. Raises TooLarge, Invalid under `file`, StorageError and OrganisationClosed.

    The file is stored before the first statement of the session, so no transaction waits for the storage. A file
    without a record does no harm.
    """
    if len(content) > MAX_BYTES:
        raise TooLarge(f"A file may have {MAX_BYTES:,} bytes at most.")
    kind = kind_of(content)
    if kind is None:
        raise Invalid.field("file", "Send a PNG, JPEG or GIF image.")
    name = f"{uuid4()}{kind.extension}"
    await storage.put(name, content, kind.content_type)
    await organisations.refuse_closed(session)
    media = MediaOut(url=links.url(name), file_id=name, size=len(content), content_type=kind.content_type)
    await repository.add(session, caller, media, storage.name)
    return media


async def read(storage: Storage, links: Links, signature: str, name: str) -> tuple[bytes, str]:
    """Return the content and the media type of a link's file. Raises NotFound and StorageError."""
    content = await storage.get(name) if links.is_valid(signature, name) else None
    if content is None:
        raise NotFound
    return content, content_type_of(name)


async def claim_due(session: AsyncSession, storage: Storage, batch: int) -> list[StoredFile]:
    """Claim files that are due for a check, for an hour."""
    return await repository.claim_due_all_tenants(session, storage.name, batch)


async def complete_check(session: AsyncSession, needed: Mapping[int, datetime], deleted: Collection[int]) -> None:
    """Save the time of the next check of needed files (by id), and delete the records of deleted files."""
    await repository.postpone_all_tenants(session, needed)
    await repository.delete_all_tenants(session, deleted)
