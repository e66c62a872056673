"""How routes come by the neighbours."""

from typing import Annotated

from fastapi import Depends, Request

from common.http.deps import CallerDep
from scheduling.clients import Neighbours, Writer
from scheduling.settings import Settings


async def get_neighbours(request: Request) -> Neighbours:
    neighbours: Neighbours = request.app.state.neighbours
    return neighbours


async def get_writer(request: Request, caller: CallerDep) -> Writer:
    settings: Settings = request.app.state.settings
    return Writer(caller, request.app.state.neighbours, settings.sms_max_parts, settings.sweep_after_s)


NeighboursDep = Annotated[Neighbours, Depends(get_neighbours)]
WriterDep = Annotated[Writer, Depends(get_writer)]
