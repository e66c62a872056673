"""Where providers tell what became of messages, and what people answered."""

from typing import Any

import structlog
from fastapi import Request
from starlette.responses import Response

from common.errors import Forbidden, Invalid, NotFound, TooLarge, Unavailable
from common.http.app import MAX_JSON_BYTES, feature_router
from common.http.deps import AllSessionDep
from delivery.providers.base import SubmissionError, Provider, WebhookMalformed, WebhookRefused, WebhookRequest
from delivery.receipts import service

log = structlog.get_logger()
router = feature_router("webhooks")

_PATH = "/api/webhooks/providers/{provider}/{kind}/"
_OPENAPI = {
    "security": [],
    "requestBody": {
        "description": "As the provider sends it.",
        "content": {"application/json": {"schema": {}}, "application/x-www-form-urlencoded": {"schema": {}}},
    },
}
_ANSWERS: dict[int | str, dict[str, object]] = {
    200: {
        "description": "Taken. The body is what the provider expects.",
        "content": {"application/json": {"example": {"status": "ok"}}, "text/xml": {"example": "<Response/>"}},
    },
    **{status: {} for status in (400, 403, 404, 413, 503)},
}


@router.post(_PATH, openapi_extra=_OPENAPI, responses=_ANSWERS, response_class=Response)
async def receive_provider_webhook(request: Request, session: AllSessionDep, provider: str, kind: str) -> Response:
    """Takes receipts and replies from a provider that is switched on, verified as that provider signs.

    What `kind` is (`receipts`, `inbound`, `events`), the provider's page in the docs tells. A repetition is answered
    the same and changes nothing.
    """
    known: Provider | None = request.app.state.providers.get(provider)
    if known is None:
        raise NotFound
    await service.keep_notices(session, provider, await _read_notices(known, await _read_request(request, kind)))
    media_type, body = known.webhook_answer
    return Response(body, media_type=media_type)


async def _read_notices(provider: Provider, webhook: WebhookRequest) -> list[dict[str, Any]]:
    try:
        return [service.describe(notice) for notice in await provider.read_webhook(webhook)]
    except WebhookRefused as refused:
        raise Forbidden(str(refused)) from None
    except WebhookMalformed as malformed:
        raise Invalid.field("non_field_errors", str(malformed)) from None
    except SubmissionError as error:
        log.warning("a webhook cannot be proven now", provider=provider.name, error=error.reason)
        raise Unavailable from None  # the provider tells it again
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # The provider's reader met something it does not know: its fault, but a repetition would be no better.
        log.error("a webhook cannot be read", provider=provider.name, kind=webhook.kind, error=type(error).__name__)
        raise Invalid.field("non_field_errors", "This cannot be understood.") from None


async def _read_request(request: Request, kind: str) -> WebhookRequest:
    """The request as it was signed: the address is the public one, the body is raw and bounded."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise TooLarge(f"A body may have {MAX_JSON_BYTES:,} bytes at most.")
    query = request.url.query
    public = request.app.state.settings.public_url.rstrip("/")
    return WebhookRequest(
        kind=kind,
        url=f"{public}{request.url.path}" + (f"?{query}" if query else ""),
        query=dict(request.query_params),
        headers=dict(request.headers),
        body=bytes(body),
    )
