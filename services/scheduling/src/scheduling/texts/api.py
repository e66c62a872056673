"""`/api/sms/preview/`."""

from common.http.app import WITHOUT_EFFECT, feature_router
from common.http.deps import CallerDep, SessionDep
from scheduling.clients.deps import ServicesDep
from scheduling.texts import service
from scheduling.texts.schemas import Preview, PreviewRequest, render_preview

router = feature_router("sending")


@router.post("/api/sms/preview/", openapi_extra={WITHOUT_EFFECT: True})
async def preview_message(
    session: SessionDep, caller: CallerDep, services: ServicesDep, body: PreviewRequest
) -> Preview:
    """Measure a message without sending it, and suggest a plainer form if there is one."""
    return render_preview(await service.preview_message(session, services, caller, body))
