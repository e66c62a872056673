"""What scheduling asks about messages."""

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from common.http.app import feature_router
from common.http.deps import neighbour_session
from delivery.clients.bus import intake_lag
from delivery.messages import service
from delivery.messages.schemas import StatesIn, StatesOut

router = feature_router("messages")

SchedulingSession = Annotated[AsyncSession, Depends(neighbour_session("scheduling"), scope="function")]


@router.post("/internal/messages/states/", include_in_schema=False)
async def get_states(request: Request, session: SchedulingSession, body: StatesIn) -> StatesOut:
    # The lag first: what is not known after there was none never came.
    lag = await intake_lag(request.app.state.settings.kafka_bootstrap_servers)
    return StatesOut(states=await service.states(session, body.schedules), intake_lag=lag)
