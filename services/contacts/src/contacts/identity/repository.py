"""Every statement about users, organisations and memberships."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Table, and_, func, literal, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.paging import Page
from contacts.identity.schemas import EventTimes
from contacts.models import (
    FoundMember,
    IdentityRow,
    ListedOrganisation,
    OrganisationRow,
    UserRow,
    memberships,
    organisations,
    users,
)

_KEYS = {"organisations": ["organisation_id"], "users": ["clerk_id"], "memberships": ["organisation_id", "user_id"]}
_IDENTITY = text(
    """
    SELECT u.id, u.is_active, o.is_active, m.is_active
    FROM (VALUES (1)) AS one
    LEFT JOIN users u ON u.clerk_id = :clerk_user_id
    LEFT JOIN organisations o ON o.organisation_id = :organisation_id
    LEFT JOIN memberships m ON m.organisation_id = :organisation_id AND m.user_id = u.id
    """
)
_ACTIVE = and_(memberships.c.is_active, users.c.is_active)
_MEMBERS = memberships.join(users, users.c.id == memberships.c.user_id)
_USER = (
    *(users.c[name] for name in ("id", "first_name", "last_name", "email", "clerk_id")),
    memberships.c.role,
    _ACTIVE.label("is_active"),
    users.c.created_at,
    func.greatest(users.c.updated_at, memberships.c.updated_at).label("updated_at"),
)
_ORGANISATION = tuple(organisations.c[name] for name in OrganisationRow._fields)
_LISTED = """
    SELECT o.organisation_id, o.name, o.slug, o.is_active,
           (SELECT count(*) FROM memberships m
            WHERE m.organisation_id = o.organisation_id AND m.is_active) AS members,
           o.created_at, o.deleted_at AS closed_at
    FROM organisations o
"""
_LIST = text(f"{_LISTED} WHERE o.organisation_id > :after ORDER BY o.organisation_id LIMIT :limit")
_FIND = text(f"{_LISTED} WHERE o.organisation_id = :organisation_id")
_INCREMENT_VERSION = text(
    "UPDATE organisations SET version = version + 1 WHERE organisation_id = :organisation_id RETURNING version"
)


class MembershipKey(NamedTuple):
    """The key of a membership."""

    organisation_id: str
    user_id: int


async def find_identity_all_tenants(session: AsyncSession, clerk_user_id: str, organisation_id: str) -> IdentityRow:
    """Return the user's id, and whether user, organisation and membership exist and are active."""
    values = {"clerk_user_id": clerk_user_id, "organisation_id": organisation_id}
    return IdentityRow._make((await session.execute(_IDENTITY, values)).one())


async def ensure_organisation(session: AsyncSession, organisation_id: str, name: str, slug: str) -> None:
    """Add an organisation that is not known yet. A known one stays as it is."""
    await session.execute(
        insert(organisations)
        .values(organisation_id=organisation_id, name=name, slug=slug)
        .on_conflict_do_nothing(index_elements=_KEYS["organisations"])
    )


async def ensure_user(session: AsyncSession, clerk_id: str, **names: str) -> int:
    """Add a user who is not known yet, and return the id.

    The names replace those of a known user as long as no event of Clerk about the user has arrived.
    """
    adding = insert(users).values(clerk_id=clerk_id, **names)
    if names:
        statement = adding.on_conflict_do_update(
            index_elements=_KEYS["users"],
            set_={**names, "updated_at": func.now()},
            where=and_(users.c.source_updated_at.is_(None), users.c.deleted_at.is_(None)),
        )
    else:
        statement = adding.on_conflict_do_nothing(index_elements=_KEYS["users"])
    await session.execute(statement)
    return int((await session.execute(select(users.c.id).where(users.c.clerk_id == clerk_id))).scalar_one())


async def find_users_all_tenants(session: AsyncSession, clerk_ids: Sequence[str]) -> dict[str, int]:
    """Return the ids of the known users, by their Clerk id."""
    found = await session.execute(
        select(users.c.clerk_id, users.c.id).where(users.c.clerk_id == func.any(list(clerk_ids)))
    )
    return {row.clerk_id: row.id for row in found}


async def find_members_all_tenants(
    session: AsyncSession, organisation_id: str, clerk_ids: Collection[str]
) -> dict[str, FoundMember]:
    """Return the given users who are or were members of the organisation, by their Clerk id."""
    statement = select(users.c.clerk_id, users.c.id, _ACTIVE).select_from(_MEMBERS)
    found = await session.execute(
        statement.where(
            memberships.c.organisation_id == organisation_id, users.c.clerk_id == func.any(sorted(clerk_ids))
        )
    )
    return {row[0]: FoundMember(*row[1:]) for row in found}


async def ensure_membership(session: AsyncSession, key: MembershipKey, *, role: str, seen_at: datetime) -> None:
    """Add a membership that is not known yet. It existed at `seen_at`, when the session token was issued."""
    await session.execute(
        insert(memberships)
        .values(**key._asdict(), role=role, source_created_at=seen_at)
        .on_conflict_do_nothing(index_elements=_KEYS["memberships"])
    )


async def save_newer(
    session: AsyncSession, table: Table, *, key: Mapping[str, Any], values: Mapping[str, Any], times: EventTimes
) -> None:
    """Save the state of an event, unless the stored state is newer. A repeated event changes nothing."""
    state = {**values, "source_updated_at": times.updated_at}
    adding = insert(table).values(**key, **state, source_created_at=times.existed_at)
    exists_again = table.c.deleted_at < times.existed_at
    is_newer = and_(
        table.c.deleted_at.is_(None),
        or_(table.c.source_updated_at.is_(None), table.c.source_updated_at < times.newer_than),
    )
    is_different = tuple_(*(table.c[name] for name in state), table.c.is_active).is_distinct_from(
        tuple_(*(adding.excluded[name] for name in state), literal(True))
    )
    await session.execute(
        adding.on_conflict_do_update(
            index_elements=_KEYS[table.name],
            set_={
                **{name: adding.excluded[name] for name in state},
                "source_created_at": func.greatest(table.c.source_created_at, times.existed_at),
                "deleted_at": None,
                "updated_at": func.now(),
            },
            where=and_(or_(exists_again, is_newer), is_different),
        )
    )


async def mark_deleted(session: AsyncSession, table: Table, *, key: Mapping[str, Any], deleted_at: datetime) -> None:
    """Mark a row as deleted, unless it was created after the deletion.

    A row that is not known yet is added as deleted, so that older events about it change nothing.
    """
    await session.execute(
        insert(table)
        .values(**key, deleted_at=deleted_at)
        .on_conflict_do_update(
            index_elements=_KEYS[table.name],
            set_={"deleted_at": deleted_at, "updated_at": func.now()},
            where=and_(
                or_(table.c.source_created_at.is_(None), table.c.source_created_at <= deleted_at),
                or_(table.c.deleted_at.is_(None), table.c.deleted_at < deleted_at),
            ),
        )
    )


async def lock_organisation(session: AsyncSession, organisation_id: str) -> OrganisationRow | None:
    """Return the organisation and lock it until this transaction ends, or return None if it is not known."""
    statement = select(*_ORGANISATION).where(organisations.c.organisation_id == organisation_id).with_for_update()
    row = (await session.execute(statement)).first()
    return None if row is None else OrganisationRow._make(row)


async def increment_version(session: AsyncSession, organisation_id: str) -> int:
    """Increment the organisation's version and return it."""
    return int((await session.execute(_INCREMENT_VERSION, {"organisation_id": organisation_id})).scalar_one())


async def list_changed_since_all_tenants(
    session: AsyncSession, since: datetime, after_id: str, limit: int
) -> list[OrganisationRow]:
    """Return organisations that were ever closed and changed after `since`, by id, from `after_id` on."""
    statement = (
        select(*_ORGANISATION)
        .where(organisations.c.organisation_id > after_id, organisations.c.updated_at >= since)
        .where(organisations.c.version > 1)
        .order_by(organisations.c.organisation_id)
        .limit(limit)
    )
    return [OrganisationRow._make(row) for row in await session.execute(statement)]


async def page_organisations_all_tenants(session: AsyncSession, limit: int, after: str) -> list[ListedOrganisation]:
    """Return organisations by id, closed ones too."""
    return [ListedOrganisation._make(row) for row in await session.execute(_LIST, {"after": after, "limit": limit})]


async def find_organisation_all_tenants(session: AsyncSession, organisation_id: str) -> ListedOrganisation | None:
    """Return an organisation, or None if it is not known."""
    row = (await session.execute(_FIND, {"organisation_id": organisation_id})).first()
    return None if row is None else ListedOrganisation._make(row)


async def page_users(session: AsyncSession, wanted: Page) -> tuple[list[UserRow], int]:
    """Return a page of the organisation's active members by name, and how many there are."""
    total = await session.scalar(select(func.count()).select_from(_MEMBERS).where(_ACTIVE))
    order = (users.c.last_name, users.c.first_name, users.c.id)
    statement = select(*_USER).select_from(_MEMBERS).where(_ACTIVE).order_by(*order)
    rows = await session.execute(statement.limit(wanted.limit).offset(wanted.offset))
    return [UserRow._make(row) for row in rows], total or 0


async def get_user(session: AsyncSession, user_id: int) -> UserRow:
    """Return a user who is or was a member of the organisation. Raises NotFound."""
    statement = select(*_USER).select_from(_MEMBERS).where(memberships.c.user_id == user_id)
    row = (await session.execute(statement)).first()
    if row is None:
        raise NotFound
    return UserRow._make(row)


async def get_organisation(session: AsyncSession) -> OrganisationRow:
    """Return the session's organisation. Raises NotFound."""
    row = (await session.execute(select(*_ORGANISATION))).first()
    if row is None:
        raise NotFound
    return OrganisationRow._make(row)
