"""`/api/schedules/`, and a contact's schedules."""

from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, neighbour_session
from common.paging import Paginated
from scheduling.clients.deps import NeighboursDep, WriterDep
from scheduling.schedules import service
from scheduling.schedules.schemas import (
    MediaNames,
    ScheduleCreate,
    ScheduleOut,
    ScheduleUpdate,
    UsedMedia,
    is_cancelling,
    read_flag,
    read_format,
)

router = feature_router("schedules")


async def get_v1(
    status_format: Annotated[str | None, Query(description="`v1`: PENDING, SENT, FAILED, DELETED")] = None,
) -> bool:
    return read_format(status_format)


async def get_days(
    tz: Annotated[str | None, Query(description="time zone of the days, default the organisation's")] = None,
    date: Annotated[str | None, Query(description="YYYY-MM-DD; without a day: today")] = None,
    date_from: Annotated[str | None, Query(description="first day, inclusive")] = None,
    date_to: Annotated[str | None, Query(description="last day, inclusive")] = None,
) -> service.Days:
    return service.Days(tz, date, date_from, date_to)


DeliverySession = Annotated[AsyncSession, Depends(neighbour_session("delivery"), scope="function")]
V1Dep = Annotated[bool, Depends(get_v1)]
DaysDep = Annotated[service.Days, Depends(get_days)]
IncludeUnknown = Annotated[str | None, Query(description="`true`: also what may have arrived already")]
Statuses = Annotated[str | None, Query(description="a list by commas; default all but cancelled")]


@router.get("/api/schedules/")
async def list_schedules(
    session: SessionDep, caller: CallerDep, days: DaysDep, page: PageDep, v1: V1Dep, status: Statuses = None
) -> Paginated[ScheduleOut]:
    """Individual schedules, the latest first."""
    return await service.list_schedules(session, caller, days, status, v1, page)


@router.post("/api/schedules/", status_code=201)
async def create_schedule(
    session: SessionDep,
    writer: WriterDep,
    v1: V1Dep,
    body: ScheduleCreate,
) -> ScheduleOut:
    """Schedules one message."""
    row = await service.create_schedule(session, writer, body)
    return service.show_schedule(row, v1)


@router.get("/api/schedules/{schedule_id}/")
async def get_schedule(session: SessionDep, schedule_id: Id, v1: V1Dep) -> ScheduleOut:
    """One schedule, or one message of a batch."""
    return await service.get_schedule(session, schedule_id, v1)


@router.put("/api/schedules/{schedule_id}/")
async def replace_schedule(
    session: SessionDep,
    writer: WriterDep,
    schedule_id: Id,
    v1: V1Dep,
    body: ScheduleCreate,
) -> ScheduleOut:
    """Changes a pending schedule."""
    row = await service.update_schedule(session, writer, schedule_id, body)
    return service.show_schedule(row, v1)


@router.patch("/api/schedules/{schedule_id}/")
async def update_schedule(
    session: SessionDep,
    writer: WriterDep,
    schedule_id: Id,
    v1: V1Dep,
    body: ScheduleUpdate,
) -> ScheduleOut:
    """Changes a pending schedule; `status: cancelled` cancels it."""
    if is_cancelling(body.status, v1):
        await service.cancel_schedule(session, writer.caller, schedule_id)
        return await service.get_schedule(session, schedule_id, v1)
    row = await service.update_schedule(session, writer, schedule_id, body)
    return service.show_schedule(row, v1)


@router.delete("/api/schedules/{schedule_id}/", status_code=204, responses={400: {}})
async def delete_schedule(session: SessionDep, caller: CallerDep, schedule_id: Id) -> None:
    """Cancels a pending schedule."""
    await service.cancel_schedule(session, caller, schedule_id)


@router.post("/api/schedules/{schedule_id}/retry/", status_code=202)
async def retry_schedule(
    session: SessionDep, caller: CallerDep, schedule_id: Id, v1: V1Dep, include_unknown: IncludeUnknown = None
) -> ScheduleOut:
    """Sends a failed message again."""
    return await service.retry_schedule(session, caller, schedule_id, read_flag("include_unknown", include_unknown), v1)


@router.get("/api/contacts/{contact_id}/schedules/")
async def list_of_contact(
    session: SessionDep, caller: CallerDep, neighbours: NeighboursDep, contact_id: Id, page: PageDep, v1: V1Dep
) -> Paginated[ScheduleOut]:
    """All messages to a contact, those of batches too, without cancelled ones."""
    return await service.list_of_contact(session, neighbours, caller, contact_id, page, v1)


@router.post("/internal/media/used/", include_in_schema=False)
async def find_used_media(session: DeliverySession, body: MediaNames) -> UsedMedia:
    return UsedMedia(used=await service.find_used_media(session, body.names, body.since))
