"""`/api/templates/`."""

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, TenantDep
from common.http.requests import describe_example
from common.paging import Paginated
from scheduling.templates import service
from scheduling.templates.schemas import (
    TemplateCreate,
    TemplateOut,
    TemplateUpdate,
    render_template,
    render_templates,
)

router = feature_router("templates")
_EXAMPLE = {"name": "Reminder", "text": "Hi {{first_name}}, see you tomorrow."}


@router.get("/api/templates/")
async def list_templates(session: SessionDep, page: PageDep) -> Paginated[TemplateOut]:
    """List the templates. They are sorted by name, and deleted ones are left out."""
    templates, total = await service.list_templates(session, page)
    return render_templates(templates, total, page)


@router.post("/api/templates/", status_code=201, openapi_extra=describe_example(_EXAMPLE))
async def create_template(session: SessionDep, caller: CallerDep, body: TemplateCreate) -> TemplateOut:
    """Create a template."""
    return render_template(await service.create_template(session, caller, body))


@router.get("/api/templates/{template_id}/")
async def get_template(tenant: TenantDep, template_id: Id) -> TemplateOut:
    """Look at a template. Deleted ones can be read, too."""
    return render_template(await service.get_template(tenant, template_id))


@router.put("/api/templates/{template_id}/", openapi_extra=describe_example(_EXAMPLE))
async def replace_template(
    session: SessionDep, caller: CallerDep, template_id: Id, body: TemplateCreate
) -> TemplateOut:
    """Replace a template. This makes a new version of it."""
    return render_template(await service.update_template(session, caller, template_id, body))


@router.patch("/api/templates/{template_id}/", openapi_extra=describe_example({"name": "Reminder"}))
async def update_template(session: SessionDep, caller: CallerDep, template_id: Id, body: TemplateUpdate) -> TemplateOut:
    """Change a template. This makes a new version of it. Fields that are left out stay as they are."""
    return render_template(await service.update_template(session, caller, template_id, body))


@router.delete("/api/templates/{template_id}/", status_code=204)
async def delete_template(session: SessionDep, caller: CallerDep, template_id: Id) -> None:
    """Delete a template. It can still be read, and schedules made from it stay."""
    await service.delete_template(session, caller, template_id)
