"""Groups over HTTP: api.md, Groups; and what scheduling asks."""

from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, internal_session
from common.paging import Paginated
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
ForScheduling = Annotated[AsyncSession, Depends(internal_session("scheduling"), scope="function")]


@router.get("/api/groups/")
async def list_groups(
    session: SessionDep,
    page: PageDep,
    search: Annotated[str, Query(description="part of the name; under 2 characters no filter")] = "",
) -> Paginated[GroupOut]:
    """Active groups, by name."""
    return await service.list_groups(session, page, search)


@router.post("/api/groups/", status_code=201)
async def create_group(body: GroupCreate, caller: CallerDep, session: SessionDep) -> GroupOut:
    """Adds a group, with its first members when they are given."""
    given = body.model_dump(exclude_unset=True, exclude={"member_ids"})
    return await service.create_group(session, caller, given, body.member_ids)


@router.get("/api/groups/{group_id}/")
async def get_group(group_id: Id, page: PageDep, session: SessionDep) -> GroupDetail:
    """One group with a page of its members."""
    return await service.get_group(session, page, group_id)


@router.put("/api/groups/{group_id}/")
async def replace_group(group_id: Id, body: GroupWrite, caller: CallerDep, session: SessionDep) -> GroupOut:
    """Changes a group; what is left out stays."""
    return await service.update_group(session, caller, group_id, body.model_dump(exclude_unset=True))


@router.patch("/api/groups/{group_id}/")
async def update_group(group_id: Id, body: GroupPatch, caller: CallerDep, session: SessionDep) -> GroupOut:
    """Changes some fields of a group."""
    return await service.update_group(session, caller, group_id, body.model_dump(exclude_unset=True))


@router.delete("/api/groups/{group_id}/", status_code=204)
async def delete_group(group_id: Id, caller: CallerDep, session: SessionDep) -> None:
    """Deletes a group softly; its members stay contacts."""
    await service.update_group(session, caller, group_id, {"is_active": False})


@router.post("/api/groups/{group_id}/members/")
async def add_members(group_id: Id, body: MembersIn, session: SessionDep) -> MembersAdded:
    """Makes contacts members."""
    return await service.add_members(session, group_id, body.contact_ids)


@router.delete("/api/groups/{group_id}/members/")
async def remove_members(group_id: Id, body: MembersIn, session: SessionDep) -> MembersRemoved:
    """Takes contacts out of the group."""
    return await service.remove_members(session, group_id, body.contact_ids)


@router.get("/internal/groups/{group_id}/", include_in_schema=False)
async def get_group_state(group_id: Id, session: ForScheduling) -> GroupState:
    """A group and how many of its members may be written to."""
    return await service.get_state(session, group_id)
