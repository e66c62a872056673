"""Use cases of recipients: the contacts that scheduling and delivery ask for."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import Invalid, NotFound
from common.statements import Tenant
from contacts.models import ContactRow
from contacts.recipients import repository, rules
from contacts.recipients.rules import Recipient


async def get_contact(tenant: Tenant, contact_id: int) -> ContactRow:
    """Return a contact, active or deleted. Raises NotFound."""
    return await repository.get(tenant, contact_id)


async def find_recipient(tenant: Tenant, contact_id: int | None, phone: str | None) -> Recipient:
    """Return the recipient with this contact or phone, and whether the recipient may be messaged.

    Raises NotFound for an unknown contact, and Invalid without both.
    """
    if contact_id is None and phone is None:
        raise Invalid("Send `contact_id`, `phone`, or both.")
    found, number_opted_out = await repository.find_candidates(tenant, contact_id, phone)
    named = next((contact for contact in found if contact.id == contact_id), None)
    if contact_id is not None and named is None:
        raise NotFound
    return rules.choose_recipient(found, named=named, phone=phone, number_opted_out=number_opted_out)


async def list_eligible_members(
    session: AsyncSession, group_id: int, *, after: int, limit: int, joined_before: datetime | None
) -> list[ContactRow]:
    """Return the members of a group who may be messaged, by id, from the id `after` on."""
    return await repository.page_of_eligible_members(
        session, group_id, after=after, limit=limit, joined_before=joined_before
    )
