"""The three sends. They commit before they wait for an outcome, and they wait in short sessions of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic_core import from_json
from sqlalchemy.ext.asyncio import AsyncSession

from common.http.app import JsonRoute
from common.http.deps import TenantDep
from common.http.render import json_response
from common.http.requests import describe_example
from common.statements import Tenant
from scheduling.batches.service import count_messages, get_batch
from scheduling.clients.deps import WriteContextDep
from scheduling.clients.services import WriteContext
from scheduling.schedules.service import get_schedule
from scheduling.sends import service
from scheduling.sends.schemas import (
    FinalAnswer,
    GroupNotSent,
    MessageNotSent,
    SendMmsRequest,
    SendRequest,
    SendToGroupRequest,
    Sent,
    SentToGroup,
    read_wait,
    render_accepted,
    render_accepted_batch,
    render_final,
    render_final_batch,
)

_POLL_S = 0.1
_RETAINED_HEADERS = ("preference-applied", "idempotent-replayed")


class WaitingRoute(JsonRoute):
    """A route whose accepted sends wait for their outcome as `Prefer` says.

    A replay under an idempotency key waits as its own `Prefer` says. Without one, the replay of a send that waited
    answers with the latest stored outcome.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        accept = super().get_route_handler()

        async def accept_and_wait(request: Request) -> Response:
            response = await accept(request)
            wait_s = read_wait(request.headers.get("prefer"))
            if response.status_code != 202:
                return response
            if wait_s:
                response.headers["Preference-Applied"] = f"wait={wait_s}"
                return await _wait(request, response, wait_s)
            if "idempotent-replayed" in response.headers:
                final = await _find_final(request, response)
                return _replace(response, final) if final is not None and final.outcome_awaited else response
            return response

        return accept_and_wait


router = APIRouter(route_class=WaitingRoute, tags=["sending"])

# WaitingRoute reads the header. The parameter puts it into the API document.
_PREFER_TEXT = "`wait=N`: wait for the outcome, 30 s at most (RFC 7240)"
Prefer = Annotated[str | None, Header(alias="Prefer", description=_PREFER_TEXT)]
_PREFER = {
    "parameters": [{"name": "Prefer", "in": "header", "schema": {"type": "string"}, "description": _PREFER_TEXT}]
}
_SEND = {**_PREFER, **describe_example({"message": "Hello from Cooee", "recipient": "0491 570 006"})}
_PICTURE = {"message": "Look", "media_url": "https://example.com/cat.png", "recipient": "0491 570 006"}
_SEND_MMS = {**_PREFER, **describe_example(_PICTURE)}
_SEND_TO_GROUP = describe_example({"message": "Hello {{first_name}}", "group_id": 1})
_ONE: dict[int | str, dict[str, Any]] = {
    200: {"model": Sent, "description": "Sent, after a wait"},
    502: {"model": MessageNotSent, "description": "Not sent, after a wait"},
}
_MANY: dict[int | str, dict[str, Any]] = {
    200: {"model": SentToGroup, "description": "All sent, after a wait"},
    207: {"model": SentToGroup, "description": "Some sent, after a wait"},
    502: {"model": GroupNotSent, "description": "None sent, after a wait"},
}


@router.post("/api/sms/send/", status_code=202, response_model=Sent, responses=_ONE, openapi_extra=_SEND)
async def send(request: Request, tenant: TenantDep, context: WriteContextDep, body: SendRequest) -> Response:
    """Send a message now."""
    return await _send(request, tenant, context, body)


@router.post("/api/sms/send-mms/", status_code=202, response_model=Sent, responses=_ONE, openapi_extra=_SEND_MMS)
async def send_mms(request: Request, tenant: TenantDep, context: WriteContextDep, body: SendMmsRequest) -> Response:
    """Send a picture now. Its text may be empty."""
    return await _send(request, tenant, context, body)


async def _send(
    request: Request, tenant: Tenant, context: WriteContext, body: SendRequest | SendMmsRequest
) -> Response:
    outcome_awaited = read_wait(request.headers.get("prefer")) > 0
    schedule_id = await service.send_now(tenant, context, body, outcome_awaited=outcome_awaited)
    return json_response(render_accepted(schedule_id).model_dump(), 202)


@router.post("/api/sms/send-to-group/", status_code=202, responses=_MANY, openapi_extra=_SEND_TO_GROUP)
async def send_to_group(
    request: Request, context: WriteContextDep, body: SendToGroupRequest, prefer: Prefer = None
) -> SentToGroup:
    """Send a message to a group now. Opted-out and inactive members are left out."""
    async with _session(request, context.caller.organisation_id) as session:
        accepted = await service.send_to_group(session, context, body, outcome_awaited=read_wait(prefer) > 0)
    return render_accepted_batch(accepted.batch_id, accepted.audience)


@asynccontextmanager
async def _session(request: Request, organisation_id: str) -> AsyncIterator[AsyncSession]:
    """Begin a transaction that ends before the wait. A request with an idempotency key already has one."""
    if (keyed := request.scope.get("keyed_session")) is not None:
        yield keyed
        return
    async with request.app.state.database.tenant(organisation_id) as session:
        yield session


async def _wait(request: Request, accepted: Response, wait_s: int) -> Response:
    """Return the outcome, or the accepted answer when the time is over."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        final = await _find_final(request, accepted)
        if final is not None:
            return _replace(accepted, final)
        if asyncio.get_running_loop().time() >= deadline:
            return accepted
        await asyncio.sleep(_POLL_S)


async def _find_final(request: Request, accepted: Response) -> FinalAnswer | None:
    """Return the final answer of an accepted send, None while its outcome is open."""
    body = from_json(bytes(accepted.body))
    async with request.app.state.database.tenant(request.scope["caller_log"]["organisation"]) as session:
        if "group_schedule_id" in body:
            batch = await get_batch(session, body["group_schedule_id"])
            return render_final_batch(batch, await count_messages(session, batch))
        return render_final(await get_schedule(session, body["schedule_id"]))


def _replace(accepted: Response, final: FinalAnswer) -> Response:
    headers = {name: accepted.headers[name] for name in _RETAINED_HEADERS if name in accepted.headers}
    return JSONResponse(final.body.model_dump(mode="json"), final.status, headers=headers)
