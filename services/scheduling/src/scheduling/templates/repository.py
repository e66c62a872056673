"""Statements on templates and their versions."""

# ruff: noqa: S608 (the statements are put together from constants of this file)

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page
from common.statements import ORGANISATION, Statement, Tenant
from scheduling.models import Template

_COLUMNS = "id, name, text, is_active, version, created_by, updated_by, created_at, updated_at"
_ADD_VERSION = """
    INSERT INTO template_versions (organisation_id, template_id, version, name, text, created_by)
    SELECT organisation_id, id, version, name, text, updated_by FROM written
"""
_ADD = text(
    f"""
    WITH written AS (
        INSERT INTO templates (organisation_id, name, text, is_active, created_by, updated_by)
        VALUES (:organisation_id, :name, :text, :is_active, :user_id, :user_id) RETURNING *
    ), added AS ({_ADD_VERSION})
    SELECT {_COLUMNS} FROM written
    """
)
_UPDATE = text(
    f"""
    WITH written AS (
        UPDATE templates SET name = coalesce(:name, name), text = coalesce(:text, text),
               is_active = coalesce(:is_active, is_active), version = version + 1, updated_by = :user_id,
               updated_at = now()
        WHERE id = :id RETURNING *
    ), added AS ({_ADD_VERSION})
    SELECT {_COLUMNS} FROM written
    """
)
_FIND = Statement(
    f"SELECT t.* FROM {ORGANISATION}"
    f" CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM templates WHERE id = $2 AND organisation_id = o.id) t"
)
_PAGE = text(f"SELECT {_COLUMNS} FROM templates WHERE is_active ORDER BY lower(name), id LIMIT :limit OFFSET :offset")
_COUNT = text("SELECT count(*) FROM templates WHERE is_active")


async def add(session: AsyncSession, values: Mapping[str, Any]) -> Template:
    """Insert a template with its version 1. The values are organisation_id, name, text, is_active and user_id."""
    return Template(**(await session.execute(_ADD, values)).one()._mapping)


async def update(session: AsyncSession, values: Mapping[str, Any]) -> Template | None:
    """Write a new version. None for name, text or is_active leaves it as it is. Return None without such a template."""
    row = (await session.execute(_UPDATE, values)).one_or_none()
    return None if row is None else Template(**row._mapping)


async def find(tenant: Tenant, template_id: int) -> Template | None:
    """Return a template, also a deleted one."""
    row = await tenant.fetch_row(_FIND, template_id)
    return None if row is None else Template(**row)


async def page(session: AsyncSession, page: Page) -> tuple[list[Template], int]:
    """Return a page of active templates by name, and how many there are."""
    total = await session.scalar(_COUNT)
    rows = await session.execute(_PAGE, {"limit": page.limit, "offset": page.offset})
    return [Template(**row._mapping) for row in rows], int(total or 0)
