"""The dependency of routes on the other services."""

from typing import Annotated

from fastapi import Depends, Request

from contacts.clients.services import OtherServices


async def get_services(request: Request) -> OtherServices:
    """Return the clients of this process."""
    services: OtherServices = request.app.state.services
    return services


ServicesDep = Annotated[OtherServices, Depends(get_services)]
