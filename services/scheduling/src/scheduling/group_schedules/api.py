"""`/api/group-schedules/`, and what delivery asks about holds."""

from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, neighbour_session
from common.paging import Paginated
from scheduling.clients.deps import WriterDep
from scheduling.group_schedules import service
from scheduling.group_schedules.schemas import (
    GroupScheduleCreate,
    GroupScheduleCreated,
    GroupScheduleDetail,
    GroupScheduleOut,
    GroupScheduleUpdate,
    KnownHolds,
    References,
    Retried,
    read_group_id,
)
from scheduling.schedules.service import Days, is_cancelling, read_flag, read_format

router = feature_router("group schedules")


async def get_v1(
    status_format: Annotated[str | None, Query(description="`v1`: PENDING, SENT, FAILED, DELETED")] = None,
) -> bool:
    return read_format(status_format)


async def get_days(
    tz: Annotated[str | None, Query(description="time zone of the day, default the organisation's")] = None,
    date: Annotated[str | None, Query(description="YYYY-MM-DD; without it all days")] = None,
) -> Days:
    return Days(tz, date)


V1Dep = Annotated[bool, Depends(get_v1)]
DeliverySession = Annotated[AsyncSession, Depends(neighbour_session("delivery"), scope="function")]


@router.get("/api/group-schedules/")
async def list_group_schedules(
    session: SessionDep,
    writer: WriterDep,
    days: Annotated[Days, Depends(get_days)],
    page: PageDep,
    v1: V1Dep,
    group_id: Annotated[str | None, Query(description="batches to this group only")] = None,
) -> Paginated[GroupScheduleOut]:
    """Batches, the latest first, without cancelled ones."""
    return await service.list_group_schedules(session, writer, days, read_group_id(group_id), page, v1)


@router.post("/api/group-schedules/", status_code=201)
async def create_group_schedule(
    session: SessionDep, writer: WriterDep, v1: V1Dep, body: GroupScheduleCreate
) -> GroupScheduleCreated:
    """Schedules a message to the members of a group; answered with the first 50 children."""
    return await service.create_group_schedule(session, writer, body, v1)


@router.get("/api/group-schedules/{group_schedule_id}/")
async def get_group_schedule(
    session: SessionDep, group_schedule_id: Id, page: PageDep, v1: V1Dep
) -> GroupScheduleDetail:
    """A batch, a page of its messages, and how many are in which status."""
    return await service.get_group_schedule(session, group_schedule_id, page, v1)


@router.put("/api/group-schedules/{group_schedule_id}/")
async def replace_group_schedule(
    session: SessionDep, writer: WriterDep, group_schedule_id: Id, v1: V1Dep, body: GroupScheduleCreate
) -> GroupScheduleOut:
    """Changes a pending batch."""
    return await service.update_group_schedule(session, writer, group_schedule_id, body, v1)


@router.patch("/api/group-schedules/{group_schedule_id}/")
async def update_group_schedule(
    session: SessionDep, writer: WriterDep, group_schedule_id: Id, v1: V1Dep, body: GroupScheduleUpdate
) -> GroupScheduleOut:
    """Changes a pending batch; `status: cancelled` cancels what of it is pending."""
    if is_cancelling(body.status, v1):
        await service.cancel_group_schedule(session, writer.caller, group_schedule_id)
        return await service.show_group_schedule(session, group_schedule_id, v1)
    return await service.update_group_schedule(session, writer, group_schedule_id, body, v1)


@router.delete("/api/group-schedules/{group_schedule_id}/", status_code=204, responses={400: {}})
async def delete_group_schedule(session: SessionDep, caller: CallerDep, group_schedule_id: Id) -> None:
    """Cancels a batch, also the rest of a running one; what was sent stays."""
    await service.cancel_group_schedule(session, caller, group_schedule_id)


@router.post("/api/group-schedules/{group_schedule_id}/retry/", status_code=202)
async def retry_group_schedule(
    session: SessionDep,
    caller: CallerDep,
    group_schedule_id: Id,
    include_unknown: Annotated[str | None, Query(description="`true`: also what may have arrived already")] = None,
) -> Retried:
    """Sends every failed message of a batch again."""
    return await service.retry_group_schedule(
        session, caller, group_schedule_id, read_flag("include_unknown", include_unknown)
    )


@router.post("/internal/holds/known/", include_in_schema=False)
async def find_known_holds(session: DeliverySession, body: References) -> KnownHolds:
    return KnownHolds(known=await service.find_known_holds(session, body.references))
