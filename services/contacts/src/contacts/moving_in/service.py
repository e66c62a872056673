"""Import the contacts, groups and members of an earlier system. An operator starts it.

A row that was imported before is written again only when it changed. So each page can be repeated.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common import moved_rows
from common.moved_rows import CheckedMonth, KnownRow, OldId, Written, moved_row
from common.outbox import publish
from contacts.contacts.rules import contact_events
from contacts.identity import service as identity
from contacts.moving_in import repository
from contacts.moving_in.schemas import ContactIn, GroupIn, MemberIn, MovedContact, UserIn

CONTACT, GROUP, MEMBER = "contact", "group", "member"
_PHONE_EXISTS = "Its new phone belongs to another contact, or the contact was erased here."


async def import_organisation(session: AsyncSession, organisation_id: str, name: str, slug: str) -> None:
    """Add an organisation that is not known yet. A known one stays as Clerk has it."""
    await identity.ensure_organisation(session, organisation_id, name, slug)


async def import_users(session: AsyncSession, users: Sequence[UserIn]) -> dict[str, int]:
    """Add the users who are not known yet, and return the ids of all by their Clerk id."""
    return await identity.ensure_users(session, [user._asdict() for user in users])


async def import_memberships(
    session: AsyncSession, memberships: Sequence[tuple[str, int, str]], seen_at: datetime
) -> None:
    """Add memberships, as (organisation, user, role), that are not known yet. A known one stays as Clerk has it."""
    for organisation_id, user_id, role in memberships:
        await identity.ensure_membership(session, organisation_id, user_id, role=role, seen_at=seen_at)


async def import_contacts(session: AsyncSession, system: str, rows: Sequence[ContactIn]) -> Written:
    """Add contacts, or change those whose row changed. Rows with one phone in an organisation become one contact.

    The contact has the values of the row with the lowest old id, or those that it had here. It is opted out if one of
    the rows is, and active if one of them is.
    """
    page = await moved_rows.split_rows(session, system, CONTACT, rows)
    known = page.known
    added = await repository.add_contacts_all_tenants(session, page.new) if page.new else []
    ids = {(contact.organisation_id, contact.phone): contact.id for contact in added}
    first: dict[tuple[str, str], ContactIn] = {}
    for row in sorted(page.new, key=lambda row: row.old_id):
        if _key(row) in ids:
            first.setdefault(_key(row), row)
    further = [row for row in page.new if first.get(_key(row)) is not row]
    await _merge(session, system, further)
    changed = await _change(session, system, page.changed, known)
    await moved_rows.save(session, [moved_row(system, CONTACT, row, ids[key]) for key, row in first.items()])
    await publish(session, contact_events([contact for contact in added if contact.opt_out]))
    return Written(
        added=len(added),
        updated=changed.updated,
        merged=tuple(row.old_id for row in further)
        + tuple(old_id for old_id, row in known.items() if not row.is_compared),
        rejected=changed.rejected,
    )


async def _merge(session: AsyncSession, system: str, rows: Sequence[ContactIn]) -> None:
    """Merge rows into the contacts that have their phones."""
    if not rows:
        return
    kept = await repository.find_contacts_all_tenants(session, rows)
    ids = {(contact.organisation_id, contact.phone): contact.id for contact in kept}
    by_contact: dict[int, list[ContactIn]] = defaultdict(list)
    for row in rows:
        by_contact[ids[_key(row)]].append(row)
    merges = [
        repository.Merge(
            id=contact_id,
            opt_out=any(row.opt_out for row in found),
            is_active=any(row.is_active for row in found),
            opted_out_at=next((row.opted_out_at for row in found if row.opt_out), None),
        )
        for contact_id, found in sorted(by_contact.items())
    ]
    await publish(session, contact_events(await repository.merge_contacts_all_tenants(session, merges)))
    saved = [moved_row(system, CONTACT, row, ids[_key(row)], is_compared=False) for row in rows]
    await moved_rows.save(session, saved)


async def _change(
    session: AsyncSession, system: str, rows: Sequence[ContactIn], known: Mapping[int, KnownRow]
) -> Written:
    """Change contacts whose rows changed. A row that was merged is merged again."""
    if not rows:
        return Written()
    again = [row for row in rows if not known[row.old_id].is_compared]
    await _merge(session, system, again)
    own: dict[tuple[str, str], ContactIn] = {}
    for row in rows:  # of two rows that change to one phone, only the first can have it
        if known[row.old_id].is_compared:
            own.setdefault(_key(row), row)
    new_ids = {row.old_id: known[row.old_id].new_id for row in own.values()}
    changed = await repository.change_contacts_all_tenants(session, list(own.values()), new_ids) if own else []
    written = {contact.id for contact in changed}
    imported = [row for row in own.values() if new_ids[row.old_id] in written]
    await moved_rows.save(session, [moved_row(system, CONTACT, row, new_ids[row.old_id]) for row in imported])
    await publish(session, contact_events(changed))
    accepted = {row.old_id for row in (*imported, *again)}
    rejected = tuple((row.old_id, _PHONE_EXISTS) for row in rows if row.old_id not in accepted)
    return Written(updated=len(imported) + len(again), rejected=rejected)


def _key(row: ContactIn) -> tuple[str, str]:
    return row.organisation_id, row.phone


async def import_groups(session: AsyncSession, system: str, rows: Sequence[GroupIn]) -> Written:
    """Add groups, or change those whose row changed."""
    page = await moved_rows.split_rows(session, system, GROUP, rows)
    new, changed, ids = page.new, page.changed, page.changed_ids
    if changed:
        await repository.change_groups_all_tenants(session, changed, ids)
    if new:
        ids |= await repository.add_groups_all_tenants(session, new)
    saved = [moved_row(system, GROUP, row, ids[row.old_id]) for row in (*new, *changed)]
    await moved_rows.save(session, saved)
    return Written(added=len(new), updated=len(changed))


async def import_members(session: AsyncSession, system: str, rows: Sequence[MemberIn]) -> Written:
    """Add contacts to groups."""
    page = await moved_rows.split_rows(session, system, MEMBER, rows)
    written = page.new + page.changed
    if not written:
        return Written()
    await repository.add_members_all_tenants(session, written)
    saved = [moved_row(system, MEMBER, row, row.contact_id, group_id=row.group_id) for row in written]
    await moved_rows.save(session, saved)
    return Written(added=len(page.new), updated=len(page.changed))


async def remove_members(
    session: AsyncSession,
    system: str,
    organisations: Collection[str],
    *,
    after: int,
    until: int,
    old_ids: Sequence[int],
) -> None:
    """Remove the members that the earlier system removed: their old ids are in (`after`, `until`] and not given."""
    await repository.remove_members_all_tenants(
        session, system, organisations, after=after, until=until, old_ids=old_ids
    )


async def find_contacts(session: AsyncSession, system: str, ids: Collection[OldId]) -> dict[OldId, MovedContact]:
    """Return the contacts that rows became, by old id."""
    return await repository.contact_states_all_tenants(session, system, ids)


async def check(session: AsyncSession, system: str, organisations: Collection[str]) -> list[CheckedMonth]:
    """Return the number and the checksums of the rows that exist here, by kind and month."""
    return await moved_rows.check(session, system, organisations, repository.CHECKS)
