"""The three sends. They commit before they wait for an outcome, in short sessions of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic_core import from_json
from sqlalchemy.ext.asyncio import AsyncSession

from common.http.app import JsonRoute
from scheduling.clients.deps import WriterDep
from scheduling.sends import service
from scheduling.sends.schemas import (
    GroupNotSent,
    MessageNotSent,
    SendMmsRequest,
    SendRequest,
    SendToGroupRequest,
    Sent,
    SentToGroup,
    read_wait,
)

_POLL_S = 0.1
_KEPT_HEADERS = ("preference-applied", "idempotent-replayed")


class WaitingRoute(JsonRoute):
    """A send that was accepted waits for its outcome as `Prefer` says. One that is answered again under its key waits
    as its own `Prefer` says; without one, a send that waited at first has the outcome that is known by then."""

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
                found = await _find_answer(request, response)
                return _final(response, found) if found is not None and found.waited else response
            return response

        return accept_and_wait


router = APIRouter(route_class=WaitingRoute, tags=["sending"])

# Read by the route, named here for the documentation.
Prefer = Annotated[str | None, Header(description="`wait=N`: wait for the outcome, 30 s at most (RFC 7240)")]
_ONE: dict[int | str, dict[str, Any]] = {
    200: {"model": Sent, "description": "Sent, after a wait"},
    502: {"model": MessageNotSent, "description": "Not sent, after a wait"},
}
_MANY: dict[int | str, dict[str, Any]] = {
    200: {"model": SentToGroup, "description": "All sent, after a wait"},
    207: {"model": SentToGroup, "description": "Some sent, after a wait"},
    502: {"model": GroupNotSent, "description": "None sent, after a wait"},
}


@router.post("/api/sms/send/", status_code=202, responses=_ONE)
async def send(request: Request, writer: WriterDep, body: SendRequest, prefer: Prefer = None) -> Sent:
    """Sends a message."""
    async with _session(request, writer.caller.organisation_id) as session:
        return await service.send_now(session, writer, body, waits=read_wait(prefer) > 0)


@router.post("/api/sms/send-mms/", status_code=202, responses=_ONE)
async def send_mms(request: Request, writer: WriterDep, body: SendMmsRequest, prefer: Prefer = None) -> Sent:
    """Sends a picture, with or without a text."""
    async with _session(request, writer.caller.organisation_id) as session:
        return await service.send_now(session, writer, body, waits=read_wait(prefer) > 0)


@router.post("/api/sms/send-to-group/", status_code=202, responses=_MANY)
async def send_to_group(
    request: Request, writer: WriterDep, body: SendToGroupRequest, prefer: Prefer = None
) -> SentToGroup:
    """Sends a message to every member of a group."""
    async with _session(request, writer.caller.organisation_id) as session:
        return await service.send_to_group(session, writer, body, waits=read_wait(prefer) > 0)


@asynccontextmanager
async def _session(request: Request, organisation_id: str) -> AsyncIterator[AsyncSession]:
    """A transaction that is over before the wait begins; under an idempotency key the key's own."""
    if (keyed := request.scope.get("keyed_session")) is not None:
        yield keyed
        return
    async with request.app.state.database.tenant(organisation_id) as session:
        yield session


async def _wait(request: Request, accepted: Response, wait_s: int) -> Response:
    """The outcome or, when the time is up, what was accepted."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        found = await _find_answer(request, accepted)
        if found is not None:
            return _final(accepted, found)
        if asyncio.get_running_loop().time() >= deadline:
            return accepted
        await asyncio.sleep(_POLL_S)


async def _find_answer(request: Request, accepted: Response) -> service.Answer | None:
    """The outcome of what was accepted, None while it is open."""
    body = from_json(bytes(accepted.body))
    async with request.app.state.database.tenant(request.scope["caller_log"]["organisation"]) as session:
        if "group_schedule_id" in body:
            return await service.find_group_answer(session, body["group_schedule_id"])
        return await service.find_answer(session, body["schedule_id"])


def _final(accepted: Response, found: service.Answer) -> Response:
    kept = {name: accepted.headers[name] for name in _KEPT_HEADERS if name in accepted.headers}
    return JSONResponse(found.body.model_dump(mode="json"), found.status, headers=kept)
