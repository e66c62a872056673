"""Every statement about users, organisations and memberships."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, and_, func, literal, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.paging import Page
from contacts.identity.schemas import Times
from contacts.models import memberships, organisations, users

KEYS = {"organisations": ["organisation_id"], "users": ["clerk_id"], "memberships": ["organisation_id", "user_id"]}
_IDENTITY = text(
    """
    SELECT u.id AS user_id, u.is_active AS user, o.is_active AS organisation, m.is_active AS membership
    FROM (VALUES (1)) AS one
    LEFT JOIN users u ON u.clerk_id = :clerk_user_id
    LEFT JOIN organisations o ON o.organisation_id = :organisation_id
    LEFT JOIN memberships m ON m.organisation_id = :organisation_id AND m.user_id = u.id
    """
)
_ACTIVE = and_(memberships.c.is_active, users.c.is_active)
_MEMBERS = memberships.join(users, users.c.id == memberships.c.user_id)
_SHOWN = (
    *(users.c[name] for name in ("id", "first_name", "last_name", "email", "clerk_id")),
    memberships.c.role,
    _ACTIVE.label("is_active"),
    users.c.created_at,
    func.greatest(users.c.updated_at, memberships.c.updated_at).label("updated_at"),
)


async def find_identity_all_tenants(session: AsyncSession, clerk_user_id: str, organisation_id: str) -> Any:
    """The user's id, and of user, organisation and membership whether each is active (None: never seen)."""
    values = {"clerk_user_id": clerk_user_id, "organisation_id": organisation_id}
    return (await session.execute(_IDENTITY, values)).one()


async def see_organisation(session: AsyncSession, organisation_id: str, name: str, slug: str) -> None:
    """Makes an organisation that was never seen; what Clerk itself said of it stays."""
    await session.execute(
        insert(organisations)
        .values(organisation_id=organisation_id, name=name, slug=slug)
        .on_conflict_do_nothing(index_elements=["organisation_id"])
    )


async def see_user(session: AsyncSession, clerk_id: str, **names: str) -> int:
    """The id of a user, made when never seen. Names are better than none, until Clerk itself says them."""
    adding = insert(users).values(clerk_id=clerk_id, **names)
    if names:
        named = adding.on_conflict_do_update(
            index_elements=["clerk_id"],
            set_={**names, "updated_at": func.now()},
            where=and_(users.c.source_updated_at.is_(None), users.c.deleted_at.is_(None)),
        )
    await session.execute(named if names else adding.on_conflict_do_nothing(index_elements=["clerk_id"]))
    return int((await session.execute(select(users.c.id).where(users.c.clerk_id == clerk_id))).scalar_one())


async def see_membership(
    session: AsyncSession, organisation_id: str, user_id: int, role: str, seen_at: datetime
) -> None:
    """Makes a membership that was never seen: it existed when the token was issued."""
    await session.execute(
        insert(memberships)
        .values(organisation_id=organisation_id, user_id=user_id, role=role, source_created_at=seen_at)
        .on_conflict_do_nothing(index_elements=KEYS["memberships"])
    )


async def apply(
    session: AsyncSession, table: Table, key: Mapping[str, Any], values: Mapping[str, Any], times: Times
) -> None:
    """Takes over what an event says, unless something newer is known. A repetition changes nothing."""
    state = {**values, "source_updated_at": times.updated_at}
    adding = insert(table).values(**key, **state, source_created_at=times.alive_at)
    is_back = table.c.deleted_at < times.alive_at
    is_newer = and_(
        table.c.deleted_at.is_(None),
        or_(table.c.source_updated_at.is_(None), table.c.source_updated_at < times.newer_than),
    )
    is_other = tuple_(*(table.c[name] for name in state), table.c.is_active).is_distinct_from(
        tuple_(*(adding.excluded[name] for name in state), literal(True))
    )
    await session.execute(
        adding.on_conflict_do_update(
            index_elements=KEYS[table.name],
            set_={
                **{name: adding.excluded[name] for name in state},
                "source_created_at": func.greatest(table.c.source_created_at, times.alive_at),
                "deleted_at": None,
                "updated_at": func.now(),
            },
            where=and_(or_(is_back, is_newer), is_other),
        )
    )


async def delete(session: AsyncSession, table: Table, key: Mapping[str, Any], deleted_at: datetime) -> None:
    """Marks as deleted, unless it was made after that. What was never seen is remembered as deleted."""
    await session.execute(
        insert(table)
        .values(**key, deleted_at=deleted_at)
        .on_conflict_do_update(
            index_elements=KEYS[table.name],
            set_={"deleted_at": deleted_at, "updated_at": func.now()},
            where=and_(
                or_(table.c.source_created_at.is_(None), table.c.source_created_at <= deleted_at),
                or_(table.c.deleted_at.is_(None), table.c.deleted_at < deleted_at),
            ),
        )
    )


async def lock_organisation(session: AsyncSession, organisation_id: str) -> Any:
    """The organisation, which no other transaction changes before this one ends; None when never seen."""
    statement = select(organisations).where(organisations.c.organisation_id == organisation_id).with_for_update()
    return (await session.execute(statement)).first()


async def raise_version(session: AsyncSession, organisation_id: str) -> int:
    """The organisation's next version."""
    statement = text(
        "UPDATE organisations SET version = version + 1 WHERE organisation_id = :organisation_id RETURNING version"
    )
    return int((await session.execute(statement, {"organisation_id": organisation_id})).scalar_one())


async def list_changed_since_all_tenants(
    session: AsyncSession, since: datetime, after_id: str, limit: int
) -> Sequence[Any]:
    """Organisations that were ever closed and changed since then, by id, beyond the id `after_id`."""
    statement = (
        select(organisations)
        .where(organisations.c.organisation_id > after_id, organisations.c.updated_at >= since)
        .where(organisations.c.version > 1)
        .order_by(organisations.c.organisation_id)
        .limit(limit)
    )
    return (await session.execute(statement)).all()


async def page_users(session: AsyncSession, wanted: Page) -> tuple[Sequence[Any], int]:
    """A page of the organisation's members by name, and how many there are."""
    total = await session.scalar(select(func.count()).select_from(_MEMBERS).where(_ACTIVE))
    order = (users.c.last_name, users.c.first_name, users.c.id)
    statement = select(*_SHOWN).select_from(_MEMBERS).where(_ACTIVE).order_by(*order)
    return (await session.execute(statement.limit(wanted.limit).offset(wanted.offset))).all(), total or 0


async def get_user(session: AsyncSession, user_id: int) -> Any:
    """A user who is or was a member. Raises NotFound."""
    statement = select(*_SHOWN).select_from(_MEMBERS).where(memberships.c.user_id == user_id)
    row = (await session.execute(statement)).first()
    if row is None:
        raise NotFound
    return row


async def get_organisation(session: AsyncSession) -> Any:
    """The session's organisation. Raises NotFound."""
    row = (await session.execute(select(organisations))).first()
    if row is None:
        raise NotFound
    return row
