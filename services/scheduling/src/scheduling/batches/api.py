"""`/api/group-schedules/`, and delivery's question about reservations."""

from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id, QueryDay, QueryNumber
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, internal_session
from common.http.requests import describe_example
from common.paging import Paginated, Pagination
from scheduling.batches import service
from scheduling.batches.schemas import (
    GroupScheduleCreate,
    GroupScheduleCreated,
    GroupScheduleDetail,
    GroupScheduleOut,
    GroupScheduleUpdate,
    KnownReservations,
    References,
    read_group_id,
    render_batch,
    render_batch_fields,
    render_batches,
)
from scheduling.clients.deps import WriteContextDep
from scheduling.schedules.schemas import (
    Days,
    StatusFormat,
    is_cancelling,
    read_format,
    render_counts,
    render_schedule,
)

router = feature_router("group schedules")
_EXAMPLE = {
    "name": "Reminders",
    "group_id": 1,
    "text": "Hi {{first_name}}, see you tomorrow.",
    "scheduled_time": "2026-11-26T01:00:00Z",
}


async def get_v1(
    status_format: Annotated[StatusFormat, Query(description="`v1`: PENDING, SENT, FAILED, DELETED")] = None,
) -> bool:
    """Return whether the request asks for the status names of v1."""
    return read_format(status_format)


async def get_days(
    tz: Annotated[str | None, Query(description="time zone of the day, default the organisation's")] = None,
    date: Annotated[QueryDay, Query(description="YYYY-MM-DD; without it all days")] = None,
) -> Days:
    """Return the day of the query."""
    return Days(tz, date)


V1Dep = Annotated[bool, Depends(get_v1)]
DeliverySession = Annotated[AsyncSession, Depends(internal_session("delivery"), scope="function")]


@router.get("/api/group-schedules/")
async def list_group_schedules(
    session: SessionDep,
    context: WriteContextDep,
    days: Annotated[Days, Depends(get_days)],
    page: PageDep,
    v1: V1Dep,
    group_id: Annotated[QueryNumber, Query(description="batches to this group only")] = None,
) -> Paginated[GroupScheduleOut]:
    """List the batches. The latest is first, and cancelled ones are left out."""
    rows, total = await service.list_batches(session, context, days=days, group_id=read_group_id(group_id), page=page)
    return render_batches(rows, total, page, v1)


@router.post("/api/group-schedules/", status_code=201, openapi_extra=describe_example(_EXAMPLE))
async def create_group_schedule(
    session: SessionDep, context: WriteContextDep, v1: V1Dep, body: GroupScheduleCreate
) -> GroupScheduleCreated:
    """Schedule a message to a group. The answer has the first 50 messages."""
    row, messages = await service.create_batch(session, context, body)
    return GroupScheduleCreated(
        **render_batch_fields(row, v1), schedules=[render_schedule(message, v1) for message in messages]
    )


@router.get("/api/group-schedules/{group_schedule_id}/")
async def get_group_schedule(
    session: SessionDep, group_schedule_id: Id, page: PageDep, v1: V1Dep
) -> GroupScheduleDetail:
    """Look at a batch. The answer has a page of its messages, and how many messages have which status."""
    detail = await service.get_batch_detail(session, group_schedule_id, page)
    return GroupScheduleDetail(
        **render_batch_fields(detail.batch, v1),
        schedules=[render_schedule(message, v1) for message in detail.messages],
        pagination=Pagination.of(page, detail.total),
        counts=render_counts(detail.counts, v1),
    )


@router.put("/api/group-schedules/{group_schedule_id}/", openapi_extra=describe_example(_EXAMPLE))
async def replace_group_schedule(
    session: SessionDep, context: WriteContextDep, group_schedule_id: Id, v1: V1Dep, body: GroupScheduleCreate
) -> GroupScheduleOut:
    """Replace a pending batch. Fields that are left out stay as they are."""
    return render_batch(await service.update_batch(session, context, group_schedule_id, body), v1)


@router.patch(
    "/api/group-schedules/{group_schedule_id}/", openapi_extra=describe_example({"name": "Reminders of Monday"})
)
async def update_group_schedule(
    session: SessionDep, context: WriteContextDep, group_schedule_id: Id, v1: V1Dep, body: GroupScheduleUpdate
) -> GroupScheduleOut:
    """Change or cancel a pending batch. `status: cancelled` cancels those of its messages that are pending."""
    if is_cancelling(body.status, v1):
        await service.cancel_batch(session, context.caller, group_schedule_id)
        return render_batch(await service.get_batch(session, group_schedule_id), v1)
    return render_batch(await service.update_batch(session, context, group_schedule_id, body), v1)


@router.delete("/api/group-schedules/{group_schedule_id}/", status_code=204, responses={400: {}})
async def delete_group_schedule(session: SessionDep, caller: CallerDep, group_schedule_id: Id) -> None:
    """Cancel a batch. The rest of a batch in processing is cancelled, too. Messages that were sent stay."""
    await service.cancel_batch(session, caller, group_schedule_id)


@router.post("/internal/reservations/known/", include_in_schema=False)
async def find_known_reservations(session: DeliverySession, body: References) -> KnownReservations:
    """Return which reservations delivery must not release yet."""
    return KnownReservations(known=await service.find_known_reservations(session, body.references))
