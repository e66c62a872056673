"""Every statement about groups and who is in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.paging import Page
from contacts.models import contacts, group_members, groups

# LATERAL with OFFSET: contact by contact, however little the planner knows of an organisation that was just imported.
_MEMBER = (
    select(contacts.c.is_active, contacts.c.opt_out)
    .where(contacts.c.id == group_members.c.contact_id)
    .offset(0)
    .lateral("member")
)
_MEMBERS = (
    select(func.count())
    .select_from(group_members.join(_MEMBER, literal(True)))
    .where(group_members.c.group_id == groups.c.id, _MEMBER.c.is_active)
)
_COUNTED = select(groups, _MEMBERS.scalar_subquery().label("member_count"))


async def page(session: AsyncSession, wanted: Page, pattern: str | None) -> tuple[Sequence[Any], int]:
    """A page of the active groups by name, each with its count, and how many groups there are."""
    where: ColumnElement[bool] = groups.c.is_active
    if pattern is not None:
        where = and_(where, func.lower(groups.c.name).like(pattern))
    total = select(func.count().label("total")).select_from(groups).where(where).subquery("counted")
    order = (func.lower(groups.c.name), groups.c.id)
    ranked = select(groups, func.row_number().over(order_by=order).label("rank")).where(where).order_by(*order)
    chosen = ranked.limit(wanted.limit).offset(wanted.offset).subquery("chosen")
    members = (
        select(func.count())
        .select_from(group_members.join(_MEMBER, literal(True)))
        .where(group_members.c.group_id == chosen.c.id, _MEMBER.c.is_active)
        .scalar_subquery()
        .label("member_count")
    )
    statement = (
        select(total.c.total, *chosen.c, members)
        .select_from(total.outerjoin(chosen, literal(True)))
        .order_by(chosen.c.rank)
    )
    rows = (await session.execute(statement)).all()
    return [row for row in rows if row.id is not None], rows[0].total


async def get(session: AsyncSession, group_id: int) -> Any:
    """The group with its count of members, active or not."""
    return await _one(session, _COUNTED.where(groups.c.id == group_id))


async def get_eligible(session: AsyncSession, group_id: int) -> Any:
    """The group with its count of members who may be written to."""
    eligible = _MEMBERS.where(~_MEMBER.c.opt_out).scalar_subquery().label("eligible_count")
    statement = select(groups.c.id, groups.c.name, groups.c.is_active, eligible)
    return await _one(session, statement.where(groups.c.id == group_id))


async def _one(session: AsyncSession, statement: Select[Any]) -> Any:
    row = (await session.execute(statement)).first()
    if row is None:
        raise NotFound
    return row


async def add(session: AsyncSession, values: Mapping[str, Any], user_id: int | None) -> int:
    """A new group's id."""
    statement = insert(groups).values(**values, created_by=user_id, updated_by=user_id).returning(groups.c.id)
    return int((await session.execute(statement)).scalar_one())


async def change(session: AsyncSession, group_id: int, values: Mapping[str, Any], user_id: int | None) -> None:
    """Changes a group. Raises NotFound."""
    statement = (
        update(groups)
        .where(groups.c.id == group_id)
        .values(**values, updated_by=user_id, updated_at=func.now())
        .returning(groups.c.id)
    )
    if (await session.execute(statement)).first() is None:
        raise NotFound


async def add_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> int:
    """How many of the contacts became members: those who are stay it."""
    statement = text(
        "INSERT INTO group_members (group_id, contact_id)"
        " SELECT :group_id, id FROM (SELECT DISTINCT unnest(CAST(:contact_ids AS bigint[])) AS id ORDER BY 1) AS c"
        " ON CONFLICT DO NOTHING RETURNING 1"
    )
    return len((await session.execute(statement, {"group_id": group_id, "contact_ids": list(contact_ids)})).all())


async def remove_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> int:
    """How many of the contacts were members; they no longer are."""
    statement = text(
        "DELETE FROM group_members WHERE group_id = :group_id AND contact_id = ANY(CAST(:contact_ids AS bigint[]))"
        " RETURNING 1"
    )
    return len((await session.execute(statement, {"group_id": group_id, "contact_ids": list(contact_ids)})).all())


async def deactivate_all(session: AsyncSession, organisation_id: str) -> None:
    """Soft-deletes every group of an organisation (across tenants, so it names it)."""
    await session.execute(
        text(
            "UPDATE groups SET is_active = false, updated_by = NULL, updated_at = now()"
            " WHERE organisation_id = :organisation_id AND is_active"
        ),
        {"organisation_id": organisation_id},
    )
