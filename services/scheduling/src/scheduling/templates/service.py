"""Use cases of templates: texts to write messages from."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.database import tenant_of
from common.errors import Invalid, NotFound
from common.paging import Page
from common.statements import Tenant
from scheduling.models import Template
from scheduling.templates import repository
from scheduling.templates.schemas import TemplateCreate, TemplateUpdate


async def create_template(session: AsyncSession, caller: Caller, body: TemplateCreate) -> Template:
    """Create a template."""
    values = {**body.model_dump(), "organisation_id": caller.organisation_id, "user_id": caller.user_id}
    return await repository.add(session, values)


async def list_templates(session: AsyncSession, page: Page) -> tuple[list[Template], int]:
    """Return a page of active templates by name, and how many there are."""
    return await repository.page(session, page)


async def get_template(tenant: Tenant, template_id: int) -> Template:
    """Return a template, also a deleted one. Raises NotFound."""
    template = await repository.find(tenant, template_id)
    if template is None:
        raise NotFound
    return template


async def get_usable_template(tenant: Tenant, template_id: int, field: str = "template") -> Template:
    """Return a template for a new message. Raises NotFound, or Invalid under `field` for a deleted one."""
    template = await get_template(tenant, template_id)
    if not template.is_active:
        raise Invalid.field(field, "This template has been deleted.")
    return template


async def update_template(
    session: AsyncSession, caller: Caller, template_id: int, body: TemplateCreate | TemplateUpdate
) -> Template:
    """Write a new version of a template, but none for an empty body. Omitted fields stay. Raises NotFound."""
    given = body.model_dump(include=body.model_fields_set)
    if not given:
        return await get_template(tenant_of(session), template_id)
    values = {"name": None, "text": None, "is_active": None, **given, "id": template_id, "user_id": caller.user_id}
    template = await repository.update(session, values)
    if template is None:
        raise NotFound
    return template


async def delete_template(session: AsyncSession, caller: Caller, template_id: int) -> None:
    """Mark a template as deleted. Schedules made from it stay. Raises NotFound."""
    await update_template(session, caller, template_id, TemplateUpdate(is_active=False))
