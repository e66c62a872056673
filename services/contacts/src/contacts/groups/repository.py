"""Every statement about groups and their members."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.errors import NotFound
from common.paging import Page
from contacts.models import GroupRow, GroupStateRow, contacts, group_members, groups

# LATERAL with OFFSET makes PostgreSQL read the members one by one. Without it, and without statistics on an
# organisation that was just imported, PostgreSQL would look for each member in all contacts of the organisation.
_MEMBER = select(contacts.c.is_active).where(contacts.c.id == group_members.c.contact_id).offset(0).lateral("member")
_MEMBER_COUNT = (
    select(func.count())
    .select_from(group_members.join(_MEMBER, literal(True)))
    .where(group_members.c.group_id == groups.c.id, _MEMBER.c.is_active)
)
_GROUP = [groups.c[name] for name in GroupRow._fields if name != "member_count"]
COUNTED = select(*_GROUP, _MEMBER_COUNT.scalar_subquery().label("member_count"))
_MEMBERSHIP = Columns(contact_id="bigint")
_ADD_MEMBERS = text(
    f"""
    INSERT INTO group_members (group_id, contact_id)
    SELECT DISTINCT CAST(:group_id AS bigint), contact_id FROM {_MEMBERSHIP.unnest("new")} ORDER BY contact_id
    ON CONFLICT DO NOTHING
    RETURNING 1
    """  # noqa: S608  # constants of this file
)
_REMOVE_MEMBERS = text(
    f"""
    DELETE FROM group_members WHERE group_id = :group_id AND contact_id = ANY({_MEMBERSHIP.array("contact_id")})
    RETURNING 1
    """  # noqa: S608  # constants of this file
)


async def page(session: AsyncSession, wanted: Page, pattern: str | None) -> tuple[list[GroupRow], int]:
    """Return a page of the active groups by name, and how many there are, in one statement."""
    where: ColumnElement[bool] = groups.c.is_active
    if pattern is not None:
        where = and_(where, func.fold(groups.c.name).like(func.fold(pattern)))
    total = select(func.count().label("total")).select_from(groups).where(where).subquery("counted")
    order = (func.lower(groups.c.name), groups.c.id)
    ranked = select(*_GROUP, func.row_number().over(order_by=order).label("rank")).where(where).order_by(*order)
    chosen = ranked.limit(wanted.limit).offset(wanted.offset).subquery("chosen")
    member_count = (
        select(func.count())
        .select_from(group_members.join(_MEMBER, literal(True)))
        .where(group_members.c.group_id == chosen.c.id, _MEMBER.c.is_active)
        .scalar_subquery()
    )
    statement = (
        select(total.c.total, *(chosen.c[column.name] for column in _GROUP), member_count.label("member_count"))
        .select_from(total.outerjoin(chosen, literal(True)))
        .order_by(chosen.c.rank)
    )
    rows = (await session.execute(statement)).all()
    return [GroupRow._make(row[1:]) for row in rows if row.id is not None], rows[0].total


async def get(session: AsyncSession, group_id: int) -> GroupRow:
    """Return a group, active or deleted, with the number of its active members. Raises NotFound."""
    return GroupRow._make(await _one(session, COUNTED.where(groups.c.id == group_id)))


async def get_state(session: AsyncSession, group_id: int) -> GroupStateRow:
    """Return a group, active or deleted, without counting its members. Raises NotFound."""
    statement = select(groups.c.id, groups.c.name, groups.c.is_active).where(groups.c.id == group_id)
    return GroupStateRow._make(await _one(session, statement))


async def _one(session: AsyncSession, statement: Select[Any]) -> Row[Any]:
    row: Row[Any] | None = (await session.execute(statement)).first()
    if row is None:
        raise NotFound
    return row


async def find_activity(session: AsyncSession, group_id: int) -> bool | None:
    """Return whether a group is active, or None if there is no such group."""
    return await session.scalar(select(groups.c.is_active).where(groups.c.id == group_id))


async def add(session: AsyncSession, values: Mapping[str, Any], user_id: int | None) -> int:
    """Add a group and return its id."""
    statement = insert(groups).values(**values, created_by=user_id, updated_by=user_id).returning(groups.c.id)
    return int((await session.execute(statement)).scalar_one())


async def change(session: AsyncSession, group_id: int, values: Mapping[str, Any], user_id: int | None) -> None:
    """Change a group. Raises NotFound."""
    statement = (
        update(groups)
        .where(groups.c.id == group_id)
        .values(**values, updated_by=user_id, updated_at=func.now())
        .returning(groups.c.id)
    )
    if (await session.execute(statement)).first() is None:
        raise NotFound


async def add_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> int:
    """Add contacts to a group and return how many were not members before."""
    values = {"group_id": group_id, **_MEMBERSHIP.bind_tuples([(contact_id,) for contact_id in contact_ids])}
    return len((await session.execute(_ADD_MEMBERS, values)).all())


async def remove_members(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> int:
    """Remove contacts from a group and return how many were members."""
    values = {"group_id": group_id, **_MEMBERSHIP.bind_tuples([(contact_id,) for contact_id in contact_ids])}
    return len((await session.execute(_REMOVE_MEMBERS, values)).all())


async def delete_of_organisation_all_tenants(session: AsyncSession, organisation_id: str) -> None:
    """Delete every group of an organisation softly."""
    await session.execute(
        text(
            "UPDATE groups SET is_active = false, updated_by = NULL, updated_at = now()"
            " WHERE organisation_id = :organisation_id AND is_active"
        ),
        {"organisation_id": organisation_id},
    )
