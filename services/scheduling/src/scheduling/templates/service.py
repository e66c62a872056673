"""Templates: texts to write messages from."""

from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid, NotFound
from common.paging import Page, Paginated, Pagination
from scheduling.templates import repository
from scheduling.templates.schemas import TemplateCreate, TemplateOut, TemplateUpdate


async def create_template(session: AsyncSession, caller: Caller, body: TemplateCreate) -> TemplateOut:
    """A new template, active."""
    values = {"organisation_id": caller.organisation_id, "name": body.name, "text": body.text}
    return _show(await repository.add(session, {**values, "user_id": caller.user_id}))


async def list_templates(session: AsyncSession, page: Page) -> Paginated[TemplateOut]:
    """Active templates by name."""
    rows, total = await repository.page(session, page)
    return Paginated(results=[_show(row) for row in rows], pagination=Pagination.of(page, total))


async def get_template(session: AsyncSession, template_id: int) -> TemplateOut:
    """A template, also a deleted one. Raises NotFound."""
    row = await repository.find(session, template_id)
    if row is None:
        raise NotFound
    return _show(row)


async def get_usable_template(session: AsyncSession, template_id: int, field: str = "template") -> TemplateOut:
    """A template for a new message. Raises NotFound, or Invalid under `field` for a deleted one."""
    template = await get_template(session, template_id)
    if not template.is_active:
        raise Invalid.field(field, "This template has been deleted.")
    return template


async def update_template(
    session: AsyncSession, caller: Caller, template_id: int, body: TemplateCreate | TemplateUpdate
) -> TemplateOut:
    """The template in a new version; what the body leaves out stays. Raises NotFound."""
    given = body.model_dump(include=body.model_fields_set)
    values = {"name": None, "text": None, "is_active": None, **given, "id": template_id, "user_id": caller.user_id}
    row = await repository.update(session, values)
    if row is None:
        raise NotFound
    return _show(row)


async def delete_template(session: AsyncSession, caller: Caller, template_id: int) -> None:
    """Deletes softly; schedules made from it stay. Raises NotFound."""
    await update_template(session, caller, template_id, TemplateUpdate(is_active=False))


def _show(row: Row[Any]) -> TemplateOut:
    return TemplateOut.model_validate(row._mapping)
