"""Every statement that reads recipients for other services."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.statements import ORGANISATION, Statement, Tenant
from contacts.contacts.rules import NUMBER_OPT_OUT
from contacts.models import ContactRow, GroupStateRow, contacts, group_members
from contacts.recipients.rules import Audience

_CONTACT = select(*(contacts.c[name] for name in ContactRow._fields))
_COLUMNS = ", ".join(ContactRow._fields)
# There is at least one row for each recipient, because a number can be opted out without being a contact's number.
# CASE hides the number of recipients from PostgreSQL. Otherwise it would estimate a plan for two recipients as cheaper
# than a plan for any number, although both are the same, and plan each call again. That took ten times as long as the
# execution.
_RECIPIENTS = Statement(
    f"""
    SELECT w.position, n.opted_out, c.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (
        SELECT o.id AS organisation_id, u.* FROM unnest(CASE WHEN o.id <> '' THEN $2::bigint[] END, $3::text[])
            WITH ORDINALITY AS u (contact_id, phone, position) OFFSET 0) w
    CROSS JOIN LATERAL (
        SELECT EXISTS ({NUMBER_OPT_OUT.format(phone="w.phone", organisation="w.organisation_id")})
            AS opted_out OFFSET 0) n
    LEFT JOIN LATERAL (
        (SELECT {_COLUMNS} FROM contacts WHERE id = w.contact_id AND organisation_id = w.organisation_id)
        UNION
        (SELECT {_COLUMNS} FROM contacts WHERE phone = w.phone AND organisation_id = w.organisation_id)
    ) c ON true
    """  # noqa: S608  # constants of this file
)
_READ = Statement(
    f"""
    SELECT c.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM contacts WHERE id = $2 AND organisation_id = o.id) c
    """  # noqa: S608  # constants of this file
)
# One statement, so that the count and the first members come from one snapshot. OFFSET 0 makes PostgreSQL read the
# contacts of the members one by one (contacts/groups/repository.py).
_AUDIENCE = Statement(
    f"""
    SELECT n.eligible_count, g.*, c.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT id, name, is_active FROM groups WHERE id = $2 AND organisation_id = o.id OFFSET 0) g
    CROSS JOIN LATERAL (
        SELECT count(*) AS eligible_count
        FROM group_members m
        CROSS JOIN LATERAL (SELECT is_active, opt_out FROM contacts WHERE id = m.contact_id OFFSET 0) member
        WHERE m.group_id = g.id AND member.is_active AND NOT member.opt_out) n
    LEFT JOIN LATERAL (
        SELECT member.* FROM group_members m
        CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM contacts WHERE id = m.contact_id OFFSET 0) member
        WHERE m.group_id = g.id AND member.is_active AND NOT member.opt_out
        ORDER BY m.contact_id LIMIT $3) c ON true
    ORDER BY c.id
    """  # noqa: S608  # constants of this file
)


async def get(tenant: Tenant, contact_id: int) -> ContactRow:
    """Return a contact, active or deleted. Raises NotFound."""
    row = await tenant.fetch_row(_READ, contact_id)
    if row is None:
        raise NotFound
    return ContactRow(*row)


async def find_candidates(
    tenant: Tenant, wanted: Sequence[tuple[int | None, str | None]]
) -> list[tuple[list[ContactRow], bool]]:
    """Return for each (contact id, phone) the contacts with the id or the phone, and whether the phone opted out.

    Deleted contacts are among them.
    """
    rows = await tenant.fetch(_RECIPIENTS, [contact_id for contact_id, _ in wanted], [phone for _, phone in wanted])
    found: list[list[ContactRow]] = [[] for _ in wanted]
    opted_out = [False] * len(wanted)
    for position, is_opted_out, *columns in rows:
        opted_out[position - 1] = is_opted_out
        if columns[0] is not None:
            found[position - 1].append(ContactRow(*columns))
    return list(zip(found, opted_out, strict=True))


async def read_audience(tenant: Tenant, group_id: int, limit: int) -> Audience:
    """Return a group, active or deleted, the number of its eligible members, and the first `limit` of them by id.

    Raises NotFound.
    """
    rows = await tenant.fetch(_AUDIENCE, group_id, limit)
    if not rows:
        raise NotFound
    end = 1 + len(GroupStateRow._fields)
    return Audience(
        group=GroupStateRow._make(rows[0][1:end]),
        eligible_count=rows[0][0],
        members=[ContactRow._make(row[end:]) for row in rows if row[end] is not None],
    )


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
