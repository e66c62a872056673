"""Dependencies of routes: the other services, and the context in which messages are written."""

from typing import Annotated

from fastapi import Depends, Request

from common.http.deps import CallerDep
from scheduling.clients.services import OtherServices, WriteContext
from scheduling.settings import Settings


async def get_services(request: Request) -> OtherServices:
    """Return the clients of this process."""
    services: OtherServices = request.app.state.services
    return services


async def get_write_context(request: Request, caller: CallerDep) -> WriteContext:
    """Return the caller with the clients and the settings that matter to messages."""
    settings: Settings = request.app.state.settings
    return WriteContext(
        caller=caller,
        services=request.app.state.services,
        new_schedules=request.app.state.new_schedules,
        new_sends=request.app.state.new_sends,
        max_parts=settings.sms_max_parts,
        sweep_after_s=settings.sweep_after_s,
    )


ServicesDep = Annotated[OtherServices, Depends(get_services)]
WriteContextDep = Annotated[WriteContext, Depends(get_write_context)]
