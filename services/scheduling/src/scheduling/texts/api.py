"""`/api/sms/preview/`."""

from common.http.app import WITHOUT_EFFECT, feature_router
from common.http.deps import CallerDep, SessionDep
from common.http.requests import describe_example
from scheduling.clients.deps import ServicesDep
from scheduling.texts import service
from scheduling.texts.schemas import Preview, PreviewRequest, render_preview

router = feature_router("sending")
_EXAMPLE = {"message": "Hi {{first_name}} – see you “soon”"}


@router.post("/api/sms/preview/", openapi_extra={WITHOUT_EFFECT: True, **describe_example(_EXAMPLE)})
async def preview_message(
    session: SessionDep, caller: CallerDep, services: ServicesDep, body: PreviewRequest
) -> Preview:
    """Preview a message and its parts. Nothing is sent. `suggestion` is a plainer text if there is one."""
    return render_preview(await service.preview_message(session, services, caller, body))
