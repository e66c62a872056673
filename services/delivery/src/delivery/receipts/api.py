"""The webhooks of the providers: delivery receipts and inbound messages."""

from typing import Annotated

import structlog
from fastapi import Request
from pydantic import WithJsonSchema
from starlette.responses import Response

from common.errors import Forbidden, Invalid, NotFound, TooLarge, Unavailable
from common.http.app import feature_router
from common.http.deps import AllSessionDep
from common.http.requests import MAX_JSON_BYTES
from delivery.providers.base import Provider, SubmissionError, WebhookMalformed, WebhookRefused, WebhookRequest
from delivery.receipts import service
from delivery.receipts.rules import NewEvent, make_event

log = structlog.get_logger()
router = feature_router("webhooks")

_PATH = "/api/webhooks/providers/{provider}/{kind}/"
# Any other kind is 404, so the parameter itself is a text.
Kind = Annotated[str, WithJsonSchema({"type": "string", "enum": ["receipts", "inbound", "events"]})]
_OPENAPI = {
    "security": [],
    "requestBody": {
        "description": "As the provider sends it.",
        "content": {"application/json": {"schema": {}}, "application/x-www-form-urlencoded": {"schema": {}}},
    },
}
_ANSWERS: dict[int | str, dict[str, object]] = {
    200: {
        "description": "Stored. The body is what the provider expects.",
        "content": {"application/json": {"example": {"status": "ok"}}, "text/xml": {"example": "<Response/>"}},
    },
    **{status: {} for status in (400, 403, 404, 413, 503)},
}


@router.post(_PATH, openapi_extra=_OPENAPI, responses=_ANSWERS, response_class=Response)
async def receive_provider_webhook(request: Request, session: AllSessionDep, provider: str, kind: Kind) -> Response:
    """Receive delivery receipts and replies from a provider. The provider must be switched on.

    The request must be signed as that provider signs. `kind` is `receipts`, `inbound` or `events`; docs/providers.md
    lists which provider uses which. A repeated webhook gets the same answer and changes nothing.
    """
    known: Provider | None = request.app.state.providers.get(provider)
    if known is None or kind not in known.webhook_kinds:
        raise NotFound
    events = await _read_events(known, await _read_request(request, kind))
    await service.store_events(session, provider, events)
    media_type, body = known.webhook_answer
    return Response(body, media_type=media_type)


async def _read_events(provider: Provider, webhook: WebhookRequest) -> list[NewEvent]:
    try:
        return [make_event(event) for event in await provider.read_webhook(webhook)]
    except WebhookRefused as refused:
        raise Forbidden(str(refused)) from None
    except WebhookMalformed as malformed:
        raise Invalid.field("non_field_errors", str(malformed)) from None
    except SubmissionError as error:
        log.warning("webhook verification unavailable", provider=provider.name, error=error.reason)
        raise Unavailable from None  # the provider repeats the webhook
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # The provider's class failed to read it. A repetition would fail, too, so the answer is not 503.
        log.error("webhook unreadable", provider=provider.name, kind=webhook.kind, error=type(error).__name__)
        raise Invalid.field("non_field_errors", "This cannot be understood.") from None


async def _read_request(request: Request, kind: str) -> WebhookRequest:
    """Return the request as it was signed: with the public address, and with the raw body, whose size is limited.

    The gateway says in X-Forwarded-Path which path was requested, if it is not the one of the route: without the last
    slash, or below /api/v2/.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise TooLarge(f"A body may have {MAX_JSON_BYTES:,} bytes at most.")
    query = request.url.query
    path = request.headers.get("x-forwarded-path") or request.url.path
    public = request.app.state.settings.public_url.rstrip("/")
    return WebhookRequest(
        kind=kind,
        url=f"{public}{path}" + (f"?{query}" if query else ""),
        query=dict(request.query_params),
        headers=dict(request.headers),
        body=bytes(body),
    )
