"""Use cases of recipients: the contacts that scheduling and delivery ask for."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import Invalid
from common.statements import Tenant
from contacts.models import ContactRow
from contacts.recipients import repository, rules
from contacts.recipients.rules import Audience, Recipient


async def get_contact(tenant: Tenant, contact_id: int) -> ContactRow:
    """Return a contact, active or deleted. Raises NotFound."""
    return await repository.get(tenant, contact_id)


async def find_recipients(tenant: Tenant, wanted: Sequence[tuple[int | None, str | None]]) -> list[Recipient]:
    """Return the recipient of each (contact id, phone), and whether the recipient may be messaged.

    Raises Invalid for a recipient without both.
    """
    if (None, None) in wanted:
        raise Invalid("Send `contact_id`, `phone`, or both for each recipient.")
    candidates = await repository.find_candidates(tenant, wanted)
    return [
        rules.choose_recipient(found, contact_id=contact_id, phone=phone, number_opted_out=opted_out)
        for (contact_id, phone), (found, opted_out) in zip(wanted, candidates, strict=True)
    ]


async def read_audience(tenant: Tenant, group_id: int, limit: int) -> Audience:
    """Return a group, active or deleted, the number of its eligible members, and the first `limit` of them by id.

    Raises NotFound.
    """
    return await repository.read_audience(tenant, group_id, limit)


async def list_eligible_members(
    session: AsyncSession, group_id: int, *, after: int, limit: int, joined_before: datetime | None
) -> list[ContactRow]:
    """Return the members of a group who may be messaged, by id, from the id `after` on."""
    return await repository.page_of_eligible_members(
        session, group_id, after=after, limit=limit, joined_before=joined_before
    )
