"""Use cases of media."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid, NotFound, TooLarge
from delivery.media import repository
from delivery.media.repository import Kept
from delivery.media.rules import MAX_BYTES, Links, content_type_of, kind_of
from delivery.media.schemas import MediaOut
from delivery.organisations import service as organisations
from delivery.storage.base import Storage


async def store_upload(
    session: AsyncSession, caller: Caller, storage: Storage, links: Links, content: bytes
) -> MediaOut:
    """Keeps an image and its record. Raises TooLarge, Invalid under `file`, StorageFault, OrganisationClosed.

    The file first, before the session's first statement: a file without a record harms nobody.
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
    """Content and media type of the file behind a link. Raises NotFound, StorageFault."""
    content = await storage.get(name) if links.is_mine(signature, name) else None
    if content is None:
        raise NotFound
    return content, content_type_of(name)


async def claim_due(session: AsyncSession, storage: Storage, batch: int) -> Sequence[Kept]:
    """Files whose time to be looked at has come, for this caller alone for an hour."""
    return await repository.claim_due_all_tenants(session, storage.name, batch)


async def settle(session: AsyncSession, needed: Mapping[int, datetime], removed: Collection[int]) -> None:
    """Files that are needed (id → next look) are looked at again then; what was removed is forgotten."""
    await repository.postpone_all_tenants(session, needed)
    await repository.remove_all_tenants(session, removed)
