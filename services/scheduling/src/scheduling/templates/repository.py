"""The statements on templates and their versions."""

# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page

_COLUMNS = "id, name, text, is_active, version, created_by, updated_by, created_at, updated_at"
_VERSION = """
    INSERT INTO template_versions (organisation_id, template_id, version, name, text, created_by)
    SELECT organisation_id, id, version, name, text, updated_by FROM written
"""
_ADD = text(
    f"""
    WITH written AS (
        INSERT INTO templates (organisation_id, name, text, created_by, updated_by)
        VALUES (:organisation_id, :name, :text, :user_id, :user_id) RETURNING *
    ), kept AS ({_VERSION})
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
    ), kept AS ({_VERSION})
    SELECT {_COLUMNS} FROM written
    """
)
_FIND = text(f"SELECT {_COLUMNS} FROM templates WHERE id = :id")
_PAGE = text(f"SELECT {_COLUMNS} FROM templates WHERE is_active ORDER BY lower(name), id LIMIT :limit OFFSET :offset")
_COUNT = text("SELECT count(*) FROM templates WHERE is_active")


async def add(session: AsyncSession, values: Mapping[str, Any]) -> Row[Any]:
    """A new template with its version 1. Values: organisation_id, name, text, user_id."""
    return (await session.execute(_ADD, values)).one()


async def update(session: AsyncSession, values: Mapping[str, Any]) -> Row[Any] | None:
    """A new version; None for name, text, is_active leaves them. None when there is no such template."""
    return (await session.execute(_UPDATE, values)).one_or_none()


async def find(session: AsyncSession, template_id: int) -> Row[Any] | None:
    return (await session.execute(_FIND, {"id": template_id})).one_or_none()


async def page(session: AsyncSession, page: Page) -> tuple[Sequence[Row[Any]], int]:
    """A page of active templates, and how many there are."""
    total = await session.scalar(_COUNT)
    rows = (await session.execute(_PAGE, {"limit": page.limit, "offset": page.offset})).all()
    return rows, int(total or 0)
