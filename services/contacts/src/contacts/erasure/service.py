"""Erase a person's contacts: names and phone leave, the row stays for counts. An operator starts it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.outbox import publish
from contacts.contacts.rules import ErasedOptOut, contact_events
from contacts.erasure import repository
from contacts.models import ContactRow


async def find_contacts(session: AsyncSession, phone: str, organisation: str | None) -> list[ContactRow]:
    """Return the contacts with a phone, of one organisation or (None) of all, also deleted ones."""
    return await repository.lock_all_tenants(session, phone, organisation)


async def begin_erasure(
    session: AsyncSession, phone: str, organisation: str | None, *, operator: str, reason: str
) -> tuple[int, list[ContactRow]]:
    """Record an erasure and delete the person's contacts softly, so that nothing new is sent to them.

    Return the id of the record and the contacts. They keep their phone, so that an interrupted erasure finds them.
    """
    erasure_id = await repository.add_record(session, organisation, operator=operator, reason=reason)
    await publish(session, contact_events(await repository.delete_all_tenants(session, phone, organisation)))
    return erasure_id, await repository.lock_all_tenants(session, phone, organisation)


async def finish_erasure(
    session: AsyncSession,
    erasure_id: int,
    phone: str,
    organisation: str | None,
    *,
    opt_outs: Sequence[ErasedOptOut],
    counts: Mapping[str, Any],
) -> int:
    """Erase the contacts and record the counts. Return how many contacts there were.

    `opt_outs` are those of the phone at delivery. They stay with a hash of the phone.
    """
    await repository.erase_opt_outs_all_tenants(session, phone, organisation, opt_outs)
    erased = await repository.erase_all_tenants(session, phone, organisation)
    await publish(session, contact_events(erased))
    await repository.complete_record(session, erasure_id, {**counts, "contacts": {"contacts": len(erased)}})
    return len(erased)
