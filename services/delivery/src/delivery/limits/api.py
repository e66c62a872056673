"""Configs for everybody; holds and limits for scheduling."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.fields import Id
from common.http.app import feature_router
from common.http.deps import AdminDep, CallerDep, PageDep, SessionDep, neighbour, neighbour_session
from common.paging import Paginated, Pagination
from delivery.limits import service
from delivery.limits.schemas import ConfigCreate, ConfigOut, ConfigUpdate, HoldIn, HoldOut, LimitsOut

router = feature_router("configs")

Scheduling = Annotated[Caller, Depends(neighbour("scheduling"))]
SchedulingSession = Annotated[AsyncSession, Depends(neighbour_session("scheduling"), scope="function")]


async def get_chains(request: Request) -> service.Chains:
    """Format → the providers that this installation has for it."""
    chains: service.Chains = request.app.state.chains
    return chains


ChainsDep = Annotated[service.Chains, Depends(get_chains)]


@router.get("/api/configs/")
async def list_configs(_: CallerDep, session: SessionDep, page: PageDep) -> Paginated[ConfigOut]:
    """The organisation's settings, by name."""
    rows, total = await service.page_configs(session, page)
    return Paginated(results=[_show(row) for row in rows], pagination=Pagination.of(page, total))


@router.post("/api/configs/", status_code=201)
async def create_config(caller: AdminDep, session: SessionDep, chains: ChainsDep, body: ConfigCreate) -> ConfigOut:
    """Adds a setting. Admins only."""
    return _show(await service.create_config(session, caller.organisation_id, body, chains))


@router.get("/api/configs/{config_id}/")
async def get_config(_: CallerDep, session: SessionDep, config_id: Id) -> ConfigOut:
    """One setting."""
    return _show(await service.get_config(session, config_id))


@router.put("/api/configs/{config_id}/")
async def replace_config(
    caller: AdminDep, session: SessionDep, chains: ChainsDep, config_id: Id, body: ConfigCreate
) -> ConfigOut:
    """Changes a setting. Admins only."""
    change = ConfigUpdate(name=body.name, value=body.value)
    return _show(await service.update_config(session, caller.organisation_id, config_id, change, chains))


@router.patch("/api/configs/{config_id}/")
async def update_config(
    caller: AdminDep, session: SessionDep, chains: ChainsDep, config_id: Id, body: ConfigUpdate
) -> ConfigOut:
    """Changes what is given of a setting. Admins only."""
    return _show(await service.update_config(session, caller.organisation_id, config_id, body, chains))


@router.put("/internal/holds/{reference}/", include_in_schema=False)
async def hold_places(caller: Scheduling, session: SchedulingSession, reference: UUID, body: HoldIn) -> HoldOut:
    return await service.hold_places(session, caller.organisation_id, reference, body)


@router.delete("/internal/holds/{reference}/", status_code=204, include_in_schema=False)
async def release_hold(_: Scheduling, session: SchedulingSession, reference: UUID) -> None:
    await service.release_holds(session, [reference])


@router.get("/internal/limits/", include_in_schema=False)
async def get_limits(caller: Scheduling, session: SchedulingSession) -> LimitsOut:
    return await service.get_limits(session, caller.organisation_id)


def _show(row: Any) -> ConfigOut:
    return ConfigOut(id=row.id, name=row.name, value=row.value)
