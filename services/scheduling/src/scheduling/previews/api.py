"""`/api/sms/preview/`."""

from common.http.app import WITHOUT_EFFECT, feature_router
from common.http.deps import CallerDep, SessionDep
from scheduling.clients.deps import NeighboursDep
from scheduling.previews import service
from scheduling.previews.schemas import PreviewRequest
from scheduling.texts.service import Preview

router = feature_router("sending")


@router.post("/api/sms/preview/", openapi_extra={WITHOUT_EFFECT: True})
async def preview_message(
    session: SessionDep, caller: CallerDep, neighbours: NeighboursDep, body: PreviewRequest
) -> Preview:
    """What a message would cost, and a plainer form of it when there is one."""
    return await service.preview_message(session, neighbours, caller, body)
