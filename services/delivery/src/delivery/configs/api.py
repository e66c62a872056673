"""`/api/configs/`: any member reads, admins write."""

from typing import Annotated

from fastapi import Depends, Request

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import AdminDep, CallerDep, PageDep, SessionDep
from common.http.requests import describe_example
from common.paging import Paginated, Pagination
from delivery.configs import service
from delivery.configs.rules import Chains
from delivery.configs.schemas import ConfigCreate, ConfigOut, ConfigUpdate
from delivery.models import ConfigRow

router = feature_router("configs")
_EXAMPLE = {"name": "sms_limit", "value": "5000"}


async def get_chains(request: Request) -> Chains:
    """Return the provider chains of this installation, by format."""
    chains: Chains = request.app.state.chains
    return chains


ChainsDep = Annotated[Chains, Depends(get_chains)]


@router.get("/api/configs/")
async def list_configs(_: CallerDep, session: SessionDep, page: PageDep) -> Paginated[ConfigOut]:
    """List the settings of the organisation. They are sorted by name."""
    rows, total = await service.page_configs(session, page)
    return Paginated(results=[_render(row) for row in rows], pagination=Pagination.of(page, total))


@router.post("/api/configs/", status_code=201, openapi_extra=describe_example(_EXAMPLE))
async def create_config(caller: AdminDep, session: SessionDep, chains: ChainsDep, body: ConfigCreate) -> ConfigOut:
    """Add a setting. Only admins may do this."""
    return _render(
        await service.create_config(session, caller.organisation_id, chains, name=body.name, value=body.value)
    )


@router.get("/api/configs/{config_id}/")
async def get_config(_: CallerDep, session: SessionDep, config_id: Id) -> ConfigOut:
    """Look at a setting."""
    return _render(await service.get_config(session, config_id))


@router.put("/api/configs/{config_id}/", openapi_extra=describe_example(_EXAMPLE))
async def replace_config(
    caller: AdminDep, session: SessionDep, chains: ChainsDep, config_id: Id, body: ConfigCreate
) -> ConfigOut:
    """Replace a setting. Only admins may do this."""
    change = body.model_dump()
    return _render(
        await service.update_config(session, caller.organisation_id, chains, config_id=config_id, change=change)
    )


@router.patch("/api/configs/{config_id}/", openapi_extra=describe_example({"value": "10000"}))
async def update_config(
    caller: AdminDep, session: SessionDep, chains: ChainsDep, config_id: Id, body: ConfigUpdate
) -> ConfigOut:
    """Change a setting. Only admins may do this."""
    change = body.model_dump(exclude_unset=True)
    return _render(
        await service.update_config(session, caller.organisation_id, chains, config_id=config_id, change=change)
    )


def _render(row: ConfigRow) -> ConfigOut:
    return ConfigOut(id=row.id, name=row.name, value=row.value)
