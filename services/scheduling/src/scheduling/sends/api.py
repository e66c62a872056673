"""The three sends. They commit before they wait for an outcome, in short sessions of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from common.http.app import feature_router
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

router = feature_router("sending")

_POLL_S = 0.1

AcceptedT = TypeVar("AcceptedT", bound=BaseModel)
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


@router.post("/api/sms/send/", status_code=202, response_model=Sent, responses=_ONE)
async def send(request: Request, writer: WriterDep, body: SendRequest, prefer: Prefer = None) -> Response:
    """Sends a message."""
    return await _send_one(request, writer, body, prefer)


@router.post("/api/sms/send-mms/", status_code=202, response_model=Sent, responses=_ONE)
async def send_mms(request: Request, writer: WriterDep, body: SendMmsRequest, prefer: Prefer = None) -> Response:
    """Sends a picture, with or without a text."""
    return await _send_one(request, writer, body, prefer)


@router.post("/api/sms/send-to-group/", status_code=202, response_model=SentToGroup, responses=_MANY)
async def send_to_group(
    request: Request, writer: WriterDep, body: SendToGroupRequest, prefer: Prefer = None
) -> Response:
    """Sends a message to every member of a group."""
    accepted = await _commit(request, writer, lambda session: service.send_to_group(session, writer, body))
    return await _answer(request, writer, prefer, accepted, accepted.group_schedule_id, service.find_group_answer)


async def _send_one(
    request: Request, writer: WriterDep, body: SendRequest | SendMmsRequest, prefer: str | None
) -> Response:
    accepted = await _commit(request, writer, lambda session: service.send_now(session, writer, body))
    return await _answer(request, writer, prefer, accepted, accepted.schedule_id, service.find_answer)


async def _commit(
    request: Request, writer: WriterDep, use_case: Callable[[AsyncSession], Awaitable[AcceptedT]]
) -> AcceptedT:
    async with request.app.state.database.tenant(writer.caller.organisation_id) as session:
        return await use_case(session)


async def _answer(
    request: Request,
    writer: WriterDep,
    prefer: str | None,
    accepted: BaseModel,
    schedule_id: int,
    find: Callable[[AsyncSession, int], Awaitable[tuple[int, BaseModel] | None]],
) -> Response:
    """202 with what was accepted or, after a wait, the outcome."""
    wait_s = read_wait(prefer)
    headers = {"Preference-Applied": f"wait={wait_s}"} if wait_s else {}
    deadline = asyncio.get_running_loop().time() + wait_s
    while asyncio.get_running_loop().time() < deadline:
        async with request.app.state.database.tenant(writer.caller.organisation_id) as session:
            found = await find(session, schedule_id)
        if found is not None:
            status, body = found
            return JSONResponse(body.model_dump(mode="json"), status, headers=headers)
        await asyncio.sleep(_POLL_S)
    return JSONResponse(accepted.model_dump(mode="json"), 202, headers=headers)
