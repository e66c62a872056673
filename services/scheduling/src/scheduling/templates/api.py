"""`/api/templates/`."""

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep
from common.paging import Paginated
from scheduling.templates import service
from scheduling.templates.schemas import TemplateCreate, TemplateOut, TemplateUpdate

router = feature_router("templates")

TemplateId = Id


@router.get("/api/templates/")
async def list_templates(session: SessionDep, page: PageDep) -> Paginated[TemplateOut]:
    """Active templates by name."""
    return await service.list_templates(session, page)


@router.post("/api/templates/", status_code=201)
async def create_template(session: SessionDep, caller: CallerDep, body: TemplateCreate) -> TemplateOut:
    """A new template."""
    return await service.create_template(session, caller, body)


@router.get("/api/templates/{template_id}/")
async def get_template(session: SessionDep, template_id: TemplateId) -> TemplateOut:
    """One template, also a deleted one."""
    return await service.get_template(session, template_id)


@router.put("/api/templates/{template_id}/")
async def replace_template(
    session: SessionDep, caller: CallerDep, template_id: TemplateId, body: TemplateCreate
) -> TemplateOut:
    """A new version of the template."""
    return await service.update_template(session, caller, template_id, body)


@router.patch("/api/templates/{template_id}/")
async def update_template(
    session: SessionDep, caller: CallerDep, template_id: TemplateId, body: TemplateUpdate
) -> TemplateOut:
    """A new version of the template; what is left out stays."""
    return await service.update_template(session, caller, template_id, body)


@router.delete("/api/templates/{template_id}/", status_code=204)
async def delete_template(session: SessionDep, caller: CallerDep, template_id: TemplateId) -> None:
    """Deletes the template; it can still be read, and schedules made from it stay."""
    await service.delete_template(session, caller, template_id)
