"""What scheduling asks about messages."""

from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession

from common.http.app import feature_router
from common.http.deps import neighbour_session
from delivery.messages import service
from delivery.messages.schemas import StatesIn, StatesOut

router = feature_router("messages")

SchedulingSession = Annotated[AsyncSession, Depends(neighbour_session("scheduling"), scope="function")]


@router.post("/internal/messages/states/", include_in_schema=False)
async def get_states(session: SchedulingSession, body: StatesIn) -> StatesOut:
    return StatesOut(states=await service.states(session, body.schedules))
