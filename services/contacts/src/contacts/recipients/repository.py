"""Every statement that reads recipients for other services."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.statements import ORGANISATION, Statement, Tenant
from contacts.models import ContactRow, contacts, group_members

_CONTACT = select(*(contacts.c[name] for name in ContactRow._fields))
_COLUMNS = ", ".join(ContactRow._fields)
# The statement returns at least one row, because a number can be opted out without being the number of a contact.
_RECIPIENT = Statement(
    f"""
    SELECT n.opted_out, c.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM opt_outs WHERE phone = $3::text AND organisation_id = o.id AND opted_out)
            AS opted_out OFFSET 0) n
    LEFT JOIN LATERAL (
        (SELECT {_COLUMNS} FROM contacts WHERE id = $2::bigint AND organisation_id = o.id)
        UNION
        (SELECT {_COLUMNS} FROM contacts WHERE phone = $3::text AND organisation_id = o.id)
    ) c ON true
    """  # noqa: S608  # constants of this file
)
_READ = Statement(
    f"""
    SELECT c.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM contacts WHERE id = $2 AND organisation_id = o.id) c
    """  # noqa: S608  # constants of this file
)


async def get(tenant: Tenant, contact_id: int) -> ContactRow:
    """Return a contact, active or deleted. Raises NotFound."""
    row = await tenant.fetch_row(_READ, contact_id)
    if row is None:
        raise NotFound
    return ContactRow(*row)


async def find_candidates(
    tenant: Tenant, contact_id: int | None, phone: str | None
) -> tuple[Sequence[ContactRow], bool]:
    """Return the contacts with this id or this phone, active or deleted, and whether this phone opted out."""
    rows = await tenant.fetch(_RECIPIENT, contact_id, phone)
    found = [ContactRow(*tuple(row)[1:]) for row in rows if row["id"] is not None]
    return found, rows[0]["opted_out"]


async def page_of_eligible_members(
    session: AsyncSession, group_id: int, *, after: int, limit: int, joined_before: datetime | None
) -> list[ContactRow]:
    """Return the members of a group who may be messaged, by id, from the id `after` on."""
    statement = (
        _CONTACT.join(group_members, group_members.c.contact_id == contacts.c.id)
        .where(group_members.c.group_id == group_id, group_members.c.contact_id > after)
        .where(contacts.c.is_active, ~contacts.c.opt_out)
        .order_by(group_members.c.contact_id)
        .limit(limit)
    )
    if joined_before is not None:
        statement = statement.where(group_members.c.joined_at <= joined_before)
    return [ContactRow._make(row) for row in await session.execute(statement)]
