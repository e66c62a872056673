"""The routes of groups, and the internal route that scheduling reads a group with."""

from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, internal_session
from common.http.requests import describe_example
from common.paging import Paginated, Pagination
from contacts.contacts.schemas import ContactOut
from contacts.groups import service
from contacts.groups.schemas import (
    GroupCreate,
    GroupDetail,
    GroupOut,
    GroupPatch,
    GroupState,
    GroupWrite,
    MembersAdded,
    MembersIn,
    MembersRemoved,
)

router = feature_router("groups")
_EXAMPLE = {"name": "Customers"}
_MEMBERS = {"contact_ids": [1]}
FromScheduling = Annotated[AsyncSession, Depends(internal_session("scheduling"), scope="function")]


@router.get("/api/groups/")
async def list_groups(
    session: SessionDep,
    page: PageDep,
    search: Annotated[str, Query(description="part of the name; fewer than 2 characters are ignored")] = "",
) -> Paginated[GroupOut]:
    """Find groups. They are sorted by name, and deleted ones are left out."""
    rows, total = await service.list_groups(session, page, search)
    return Paginated(results=[GroupOut.model_validate(row) for row in rows], pagination=Pagination.of(page, total))


@router.post("/api/groups/", status_code=201, openapi_extra=describe_example(_EXAMPLE))
async def create_group(body: GroupCreate, caller: CallerDep, session: SessionDep) -> GroupOut:
    """Add a group. `member_ids` are its first members."""
    given = body.model_dump(exclude_unset=True, exclude={"member_ids"})
    return GroupOut.model_validate(await service.create_group(session, caller, given, body.member_ids))


@router.get("/api/groups/{group_id}/")
async def get_group(group_id: Id, page: PageDep, session: SessionDep) -> GroupDetail:
    """Look at a group and its members. The answer has a page of its active members by name."""
    group, members = await service.get_group(session, page, group_id)
    listed = Paginated[ContactOut](
        results=[ContactOut.model_validate(member) for member in members],
        pagination=Pagination.of(page, group.member_count),
    )
    return GroupDetail.model_validate({**group._asdict(), "members": listed})


@router.put("/api/groups/{group_id}/", openapi_extra=describe_example(_EXAMPLE))
async def replace_group(group_id: Id, body: GroupWrite, caller: CallerDep, session: SessionDep) -> GroupOut:
    """Replace a group. Fields that are left out stay as they are."""
    changes = body.model_dump(exclude_unset=True)
    return GroupOut.model_validate(await service.update_group(session, caller, group_id, changes))


@router.patch("/api/groups/{group_id}/", openapi_extra=describe_example({"description": "Customers of 2026"}))
async def update_group(group_id: Id, body: GroupPatch, caller: CallerDep, session: SessionDep) -> GroupOut:
    """Change some fields of a group. `is_active: true` restores a deleted group."""
    changes = body.model_dump(exclude_unset=True)
    return GroupOut.model_validate(await service.update_group(session, caller, group_id, changes))


@router.delete("/api/groups/{group_id}/", status_code=204)
async def delete_group(group_id: Id, caller: CallerDep, session: SessionDep) -> None:
    """Delete a group. Its members stay contacts."""
    await service.update_group(session, caller, group_id, {"is_active": False})


@router.post("/api/groups/{group_id}/members/", openapi_extra=describe_example(_MEMBERS))
async def add_members(group_id: Id, body: MembersIn, session: SessionDep) -> MembersAdded:
    """Add contacts to a group. Contacts that are members already are ignored."""
    added, member_count = await service.add_members(session, group_id, body.contact_ids)
    return MembersAdded(added=added, member_count=member_count)


@router.delete("/api/groups/{group_id}/members/", openapi_extra=describe_example(_MEMBERS))
async def remove_members(group_id: Id, body: MembersIn, session: SessionDep) -> MembersRemoved:
    """Remove contacts from a group. Contacts that are not members are ignored."""
    removed, member_count = await service.remove_members(session, group_id, body.contact_ids)
    return MembersRemoved(removed=removed, member_count=member_count)


@router.get("/internal/groups/{group_id}/", include_in_schema=False)
async def get_group_state(group_id: Id, session: FromScheduling) -> GroupState:
    """Return a group, active or deleted, without counting its members."""
    return GroupState.model_validate(await service.get_state(session, group_id))
