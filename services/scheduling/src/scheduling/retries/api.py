"""The two retries: of one failed message, and of all failed messages of a batch."""

from typing import Annotated

from fastapi import APIRouter, Query

from common.fields import Id, QueryFlag, read_flag
from common.http.app import JsonRoute
from common.http.deps import CallerDep, SessionDep
from scheduling.retries import service
from scheduling.retries.schemas import Retried
from scheduling.schedules.schemas import ScheduleOut, StatusFormat, read_format, render_schedule

router = APIRouter(route_class=JsonRoute)

StatusFormatParameter = Annotated[StatusFormat, Query(description="`v1`: PENDING, SENT, FAILED, DELETED")]
IncludeUnknown = Annotated[
    QueryFlag, Query(description="`true`: also messages that may have arrived (`outcome_unknown`)")
]


@router.post("/api/schedules/{schedule_id}/retry/", status_code=202, tags=["schedules"])
async def retry_schedule(
    session: SessionDep,
    caller: CallerDep,
    schedule_id: Id,
    status_format: StatusFormatParameter = None,
    include_unknown: IncludeUnknown = None,
) -> ScheduleOut:
    """Send a failed message again."""
    v1 = read_format(status_format)
    flag = read_flag("include_unknown", include_unknown)
    return render_schedule(await service.retry_schedule(session, caller, schedule_id, flag), v1)


@router.post("/api/group-schedules/{group_schedule_id}/retry/", status_code=202, tags=["group schedules"])
async def retry_group_schedule(
    session: SessionDep, caller: CallerDep, group_schedule_id: Id, include_unknown: IncludeUnknown = None
) -> Retried:
    """Send all failed messages of a batch again."""
    flag = read_flag("include_unknown", include_unknown)
    return Retried(retried=await service.retry_batch(session, caller, group_schedule_id, flag))
