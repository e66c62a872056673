"""`/api/schedules/`, the schedules of a contact, and delivery's question about media files."""

from typing import Annotated

from fastapi import Depends, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id, QueryDay, read_names
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, TenantDep, internal_session
from common.http.render import json_response, page_response
from common.http.requests import describe_example
from common.paging import Paginated
from scheduling.clients.deps import ServicesDep, WriteContextDep
from scheduling.schedules import service
from scheduling.schedules.schemas import (
    Days,
    MediaNames,
    ScheduleCreate,
    ScheduleOut,
    ScheduleUpdate,
    Statuses,
    StatusFormat,
    UsedMedia,
    is_cancelling,
    read_format,
    read_statuses,
    render_fields,
    render_schedule,
    render_schedules,
)

router = feature_router("schedules")
_EXAMPLE = {"text": "See you tomorrow.", "phone": "0491 570 006", "scheduled_time": "2026-11-26T01:00:00Z"}


async def get_v1(
    status_format: Annotated[StatusFormat, Query(description="`v1`: PENDING, SENT, FAILED, DELETED")] = None,
) -> bool:
    """Return whether the request asks for the status names of v1."""
    return read_format(status_format)


async def get_days(
    tz: Annotated[str | None, Query(description="time zone of the days, default the organisation's")] = None,
    date: Annotated[QueryDay, Query(description="YYYY-MM-DD; without a day: today")] = None,
    date_from: Annotated[QueryDay, Query(description="first day, inclusive")] = None,
    date_to: Annotated[QueryDay, Query(description="last day, inclusive")] = None,
) -> Days:
    """Return the days of the query."""
    return Days(tz, date, date_from, date_to)


DeliverySession = Annotated[AsyncSession, Depends(internal_session("delivery"), scope="function")]
V1Dep = Annotated[bool, Depends(get_v1)]
DaysDep = Annotated[Days, Depends(get_days)]
StatusesParameter = Annotated[Statuses, Query(description="schedules with one of these; by default all but cancelled")]


@router.get("/api/schedules/", response_model=Paginated[ScheduleOut])
async def list_schedules(
    tenant: TenantDep, days: DaysDep, page: PageDep, v1: V1Dep, status: StatusesParameter = None
) -> Response:
    """List messages to one person. Without days it has those of today. The latest is first."""
    rows, total = await service.list_schedules(tenant, days, read_statuses(read_names(status), v1), page)
    return page_response([render_fields(row, v1) for row in rows], page, total)


@router.post("/api/schedules/", status_code=201, response_model=ScheduleOut, openapi_extra=describe_example(_EXAMPLE))
async def create_schedule(tenant: TenantDep, context: WriteContextDep, v1: V1Dep, body: ScheduleCreate) -> Response:
    """Schedule a message to one person. It needs a text or a template, and a contact or a phone."""
    return json_response(render_fields(await service.create_schedule(tenant, context, body), v1), 201)


@router.get("/api/schedules/{schedule_id}/", response_model=ScheduleOut)
async def get_schedule(tenant: TenantDep, schedule_id: Id, v1: V1Dep) -> Response:
    """Look at a message and its outcome. The id may be that of a message of a batch."""
    return json_response(render_fields(await service.read_schedule(tenant, schedule_id), v1))


@router.put("/api/schedules/{schedule_id}/", openapi_extra=describe_example(_EXAMPLE))
async def replace_schedule(
    session: SessionDep, context: WriteContextDep, schedule_id: Id, v1: V1Dep, body: ScheduleCreate
) -> ScheduleOut:
    """Replace a pending message. Fields that are left out stay as they are."""
    return render_schedule(await service.update_schedule(session, context, schedule_id, body), v1)


@router.patch("/api/schedules/{schedule_id}/", openapi_extra=describe_example({"text": "See you on Monday."}))
async def update_schedule(
    session: SessionDep, context: WriteContextDep, schedule_id: Id, v1: V1Dep, body: ScheduleUpdate
) -> ScheduleOut:
    """Change or cancel a pending message. `status: cancelled` cancels it."""
    if is_cancelling(body.status, v1):
        await service.cancel_schedule(session, context.caller, schedule_id)
        return render_schedule(await service.get_schedule(session, schedule_id), v1)
    return render_schedule(await service.update_schedule(session, context, schedule_id, body), v1)


@router.delete("/api/schedules/{schedule_id}/", status_code=204, responses={400: {}})
async def delete_schedule(session: SessionDep, caller: CallerDep, schedule_id: Id) -> None:
    """Cancel a pending message."""
    await service.cancel_schedule(session, caller, schedule_id)


@router.get("/api/contacts/{contact_id}/schedules/")
async def list_of_contact(
    session: SessionDep, caller: CallerDep, services: ServicesDep, contact_id: Id, page: PageDep, v1: V1Dep
) -> Paginated[ScheduleOut]:
    """List the schedules of a contact. It has messages of batches, too. Cancelled ones are left out."""
    rows, total = await service.list_of_contact(session, services, caller, contact_id=contact_id, page=page)
    return render_schedules(rows, total, page, v1)


@router.post("/internal/media/used/", include_in_schema=False)
async def find_used_media(session: DeliverySession, body: MediaNames) -> UsedMedia:
    """Return which files delivery may not delete yet."""
    return UsedMedia(used=await service.find_used_media(session, body.names, body.since))
