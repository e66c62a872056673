"""Use cases of groups and their members. They run in the caller's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid, NotFound
from common.paging import Page
from contacts.contacts import service as contacts_service
from contacts.groups import repository
from contacts.groups.rules import search_pattern
from contacts.models import ContactRow, GroupRow, GroupStateRow


async def list_groups(session: AsyncSession, page: Page, search: str) -> tuple[list[GroupRow], int]:
    """Return a page of the active groups by name, and how many there are. Raises Invalid for the search."""
    return await repository.page(session, page, search_pattern(search))


async def get_group(session: AsyncSession, page: Page, group_id: int) -> tuple[GroupRow, list[ContactRow]]:
    """Return a group, active or deleted, with a page of its active members. Raises NotFound."""
    group = await repository.get(session, group_id)
    return group, await contacts_service.list_members(session, page, group_id)


async def create_group(
    session: AsyncSession, caller: Caller, given: Mapping[str, Any], member_ids: Sequence[int]
) -> GroupRow:
    """Add a group with its first members. Raises NotFound for an unknown contact, and Invalid for a deleted one."""
    if member_ids:
        await contacts_service.require_active(session, member_ids, "member_ids")
    group_id = await repository.add(session, given, caller.user_id)
    if member_ids:
        await repository.add_members(session, group_id, member_ids)
    return await repository.get(session, group_id)


async def update_group(session: AsyncSession, caller: Caller, group_id: int, changes: Mapping[str, Any]) -> GroupRow:
    """Change a group. Without changes it stays as it is. Raises NotFound."""
    if changes:
        await repository.change(session, group_id, changes, caller.user_id)
    return await repository.get(session, group_id)


async def add_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> tuple[int, int]:
    """Add contacts to a group. Return how many were added, and how many members there are.

    Raises NotFound for the group or an unknown contact, and Invalid for a deleted contact. Then none is added.
    """
    await repository.get(session, group_id)
    await contacts_service.require_active(session, contact_ids, "contact_ids")
    added = await repository.add_members(session, group_id, contact_ids)
    return added, (await repository.get(session, group_id)).member_count


async def remove_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> tuple[int, int]:
    """Remove contacts from a group. Return how many were removed, and how many members there are.

    Contacts that are not members are ignored. Raises NotFound for the group.
    """
    await repository.get(session, group_id)
    removed = await repository.remove_members(session, group_id, contact_ids)
    return removed, (await repository.get(session, group_id)).member_count


async def require_active(session: AsyncSession, group_id: int, field: str) -> None:
    """Raise NotFound if the group does not exist, and Invalid under `field` if it is deleted."""
    is_active = await repository.find_activity(session, group_id)
    if is_active is None:
        raise NotFound
    if not is_active:
        raise Invalid.field(field, "This group was deleted. Restore it, or choose another group.")


async def add_imported(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> None:
    """Add contacts to a group. The caller has checked the group and written the contacts."""
    await repository.add_members(session, group_id, contact_ids)


async def get_state(session: AsyncSession, group_id: int) -> GroupStateRow:
    """Return a group, active or deleted, without counting its members. Raises NotFound."""
    return await repository.get_state(session, group_id)


async def delete_groups_of_organisation(session: AsyncSession, organisation_id: str) -> None:
    """Delete all groups of a closed organisation softly."""
    await repository.delete_of_organisation_all_tenants(session, organisation_id)
