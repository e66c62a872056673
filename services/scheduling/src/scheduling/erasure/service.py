"""Erase a person's schedules: content and phone leave, the row stays for counts. An operator starts it."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from scheduling.erasure import repository

PAGE = 5000


class ErasedPage(NamedTuple):
    """What a page of schedules had of a person. `next` is the id to continue after, None after the last page.

    `schedules` were erased, `cancelled` of them before they were sent. `open` are in processing and stay for now.
    """

    next: int | None
    schedules: int
    cancelled: int
    open: int


async def erase_page(
    session: AsyncSession,
    phone: str,
    organisation: str | None,
    contacts: Collection[tuple[str, int]],
    *,
    after: int,
    dry_run: bool,
) -> ErasedPage:
    """Erase a person's schedules among the next `PAGE` schedules by id. With `dry_run` only count them.

    A person's schedules have the phone, or one of the (organisation, contact).
    """
    found = await repository.find_all_tenants(session, phone, organisation, contacts, after=after, size=PAGE)
    erased = len(found.ids) if dry_run else await repository.erase_all_tenants(session, found.ids)
    return ErasedPage(
        next=found.last if found.size == PAGE else None,
        schedules=erased,
        cancelled=found.pending,
        open=found.processing,
    )
