"""What can be done with groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.paging import Page, Paginated, Pagination
from contacts.contacts import service as contacts_service
from contacts.groups import repository
from contacts.groups.rules import search_pattern
from contacts.groups.schemas import GroupDetail, GroupOut, GroupState, MembersAdded, MembersRemoved


async def list_groups(session: AsyncSession, page: Page, search: str) -> Paginated[GroupOut]:
    """A page of the active groups, by name."""
    rows, total = await repository.page(session, page, search_pattern(search))
    return Paginated(results=[GroupOut.model_validate(row) for row in rows], pagination=Pagination.of(page, total))


async def get_group(session: AsyncSession, page: Page, group_id: int) -> GroupDetail:
    """A group, active or not, with a page of its active members. Raises NotFound."""
    row = await repository.get(session, group_id)
    members = await contacts_service.list_members(session, page, group_id, row.member_count)
    return GroupDetail.model_validate({**row._mapping, "members": members})


async def create_group(
    session: AsyncSession, caller: Caller, given: Mapping[str, Any], member_ids: Sequence[int]
) -> GroupOut:
    """Adds a group with its first members. Raises NotFound or Invalid for one who cannot be a member."""
    if member_ids:
        await contacts_service.require_active(session, member_ids, "member_ids")
    group_id = await repository.add(session, given, caller.user_id)
    if member_ids:
        await repository.add_members(session, group_id, member_ids)
    return GroupOut.model_validate(await repository.get(session, group_id))


async def update_group(session: AsyncSession, caller: Caller, group_id: int, changes: Mapping[str, Any]) -> GroupOut:
    """Changes a group. Raises NotFound."""
    await repository.change(session, group_id, changes, caller.user_id)
    return GroupOut.model_validate(await repository.get(session, group_id))


async def add_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> MembersAdded:
    """Adds contacts to a group. Raises NotFound for an unknown one, Invalid for a deleted one: none is added then."""
    await repository.get(session, group_id)
    await contacts_service.require_active(session, contact_ids, "contact_ids")
    added = await repository.add_members(session, group_id, contact_ids)
    return MembersAdded(added=added, member_count=(await repository.get(session, group_id)).member_count)


async def remove_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> MembersRemoved:
    """Takes contacts out of a group; those who are not in it are passed by. Raises NotFound for the group."""
    await repository.get(session, group_id)
    removed = await repository.remove_members(session, group_id, contact_ids)
    return MembersRemoved(removed=removed, member_count=(await repository.get(session, group_id)).member_count)


async def get_state(session: AsyncSession, group_id: int) -> GroupState:
    """A group as scheduling needs it. Raises NotFound."""
    return GroupState.model_validate(dict((await repository.get_eligible(session, group_id))._mapping))


async def deactivate_all(session: AsyncSession, organisation_id: str) -> None:
    """Soft-deletes all groups of a closed organisation."""
    await repository.deactivate_all(session, organisation_id)
