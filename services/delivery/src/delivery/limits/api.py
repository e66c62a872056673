"""Reservations and limits, for scheduling."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Response
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.http.app import feature_router
from common.http.deps import internal_caller, internal_session, internal_tenant
from common.http.render import json_response
from common.statements import Tenant
from delivery.limits import service
from delivery.limits.schemas import LimitsOut, ReservationsIn, ReservationsOut

router = feature_router("limits")

SchedulingTenant = Annotated[Tenant, Depends(internal_tenant("scheduling"))]
Scheduling = Annotated[Caller, Depends(internal_caller("scheduling"))]
SchedulingSession = Annotated[AsyncSession, Depends(internal_session("scheduling"), scope="function")]


@router.post("/internal/reservations/", response_model=ReservationsOut, include_in_schema=False)
async def reserve(tenant: SchedulingTenant, body: ReservationsIn) -> Response:
    """Reserve parts for sends. When not all fit, each is decided by itself, in order."""
    results = await service.reserve_new(tenant, body.reservations)
    if None in results:
        async with tenant.transaction() as session:
            for place, result in enumerate(results):
                if result is None:
                    results[place] = await service.reserve(session, tenant.organisation_id, body.reservations[place])
    return json_response({"reservations": [result.model_dump() for result in results if result is not None]})


@router.delete("/internal/reservations/{reference}/", status_code=204, include_in_schema=False)
async def release(_: Scheduling, session: SchedulingSession, reference: UUID) -> None:
    """Release a reservation."""
    await service.release_reservations(session, [reference])


@router.get("/internal/limits/", include_in_schema=False)
async def get_limits(caller: Scheduling, session: SchedulingSession) -> LimitsOut:
    """Return the organisation's limits and time zone."""
    limits, zone = await service.get_limits(session, caller.organisation_id)
    return LimitsOut(sms_limit=limits.get("sms"), mms_limit=limits.get("mms"), timezone=zone)
