"""Every statement that reads recipients for other services."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from contacts.models import ContactRow, contacts, group_members

_CONTACT = select(*(contacts.c[name] for name in ContactRow._fields))
# The statement returns at least one row, because a number can be opted out without being the number of a contact.
_RECIPIENT = text(
    f"""
    SELECT o.opted_out, {", ".join(f"c.{name}" for name in ContactRow._fields)}
    FROM (SELECT EXISTS (SELECT FROM opt_outs WHERE phone = CAST(:phone AS text) AND opted_out) AS opted_out) o
    LEFT JOIN contacts c ON c.id = CAST(:contact_id AS bigint) OR c.phone = CAST(:phone AS text)
    """  # noqa: S608  # constants of this file
)


async def get(session: AsyncSession, contact_id: int) -> ContactRow:
    """Return a contact, active or deleted. Raises NotFound."""
    row = (await session.execute(_CONTACT.where(contacts.c.id == contact_id))).first()
    if row is None:
        raise NotFound
    return ContactRow._make(row)


async def find_candidates(
    session: AsyncSession, contact_id: int | None, phone: str | None
) -> tuple[Sequence[ContactRow], bool]:
    """Return the contacts with this id or this phone, active or deleted, and whether this phone opted out."""
    rows = (await session.execute(_RECIPIENT, {"contact_id": contact_id, "phone": phone})).all()
    return [ContactRow._make(row[1:]) for row in rows if row.id is not None], rows[0].opted_out


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
