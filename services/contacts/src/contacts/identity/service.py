"""Use cases of identity: resolve session tokens, read members, and apply Clerk's events."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Forbidden, NotFound
from common.events import OrganisationChanged
from common.outbox import publish
from common.paging import Page
from contacts.contacts import service as contacts_service
from contacts.groups import service as groups_service
from contacts.identity import repository, rules
from contacts.identity.repository import MembershipKey
from contacts.identity.schemas import (
    ClerkDeleted,
    ClerkEvent,
    ClerkMembership,
    ClerkOrganisation,
    ClerkUser,
    IdentityIn,
)
from contacts.models import FoundMember, ListedOrganisation, OrganisationRow, UserRow, memberships, organisations, users


async def resolve_identity(session: AsyncSession, claims: IdentityIn) -> int:
    """Return our id of the user that a verified session token names.

    User, organisation and membership are created if they are not known yet. Raises Forbidden when one of them was
    deleted. The usual case, in which all are known, is one statement.
    """
    key = claims.clerk_user_id, claims.clerk_organisation_id
    found = await repository.find_identity_all_tenants(session, *key)
    states = (found.user_is_active, found.organisation_is_active, found.membership_is_active)
    if None in states and False not in states:
        await repository.ensure_organisation(session, claims.clerk_organisation_id, "", claims.organisation_slug)
        user_id = await repository.ensure_user(session, claims.clerk_user_id)
        await repository.ensure_membership(
            session,
            MembershipKey(claims.clerk_organisation_id, user_id),
            role=rules.short_role(claims.role),
            seen_at=claims.first_seen_at,
        )
        found = await repository.find_identity_all_tenants(session, *key)
    if found.organisation_is_active is False:  # then a user who was never seen before is not created
        raise Forbidden("This organisation was closed.")
    if not found.user_is_active or found.user_id is None:
        raise Forbidden("This user was removed.")
    if not found.membership_is_active:
        raise Forbidden("This user is no longer a member of the organisation.")
    return found.user_id


async def ensure_organisation(session: AsyncSession, organisation_id: str, name: str, slug: str) -> None:
    """Add an organisation that is not known yet. A known one stays as it is."""
    await repository.ensure_organisation(session, organisation_id, name, slug)


async def ensure_users(session: AsyncSession, given: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """Add the users who are not known yet, and return the ids of all by their Clerk id."""
    known = await repository.find_users_all_tenants(session, [user["clerk_id"] for user in given])
    for user in given:
        if user["clerk_id"] not in known:
            known[user["clerk_id"]] = await repository.ensure_user(session, **user)
    return known


async def ensure_membership(
    session: AsyncSession, organisation_id: str, user_id: int, *, role: str, seen_at: datetime
) -> None:
    """Add a membership that is not known yet. A known one stays as it is."""
    key = MembershipKey(organisation_id, user_id)
    await repository.ensure_membership(session, key, role=rules.short_role(role), seen_at=seen_at)


async def find_members(
    session: AsyncSession, organisation_id: str, clerk_ids: Collection[str]
) -> dict[str, FoundMember]:
    """Return the given users who are or were members of an organisation, by their Clerk id."""
    return await repository.find_members_all_tenants(session, organisation_id, clerk_ids)


async def list_users(session: AsyncSession, page: Page) -> tuple[list[UserRow], int]:
    """Return a page of the organisation's members by name, and how many there are."""
    return await repository.page_users(session, page)


async def get_user(session: AsyncSession, user_id: int) -> UserRow:
    """Return a user who is or was a member of the organisation. Raises NotFound."""
    return await repository.get_user(session, user_id)


async def get_me(session: AsyncSession, caller: Caller) -> tuple[UserRow, OrganisationRow]:
    """Return the caller's user and organisation. Raises NotFound for a caller without a user."""
    if caller.user_id is None:
        raise NotFound
    return await repository.get_user(session, caller.user_id), await repository.get_organisation(session)


async def apply_event(session: AsyncSession, event: ClerkEvent) -> None:
    """Apply an event of Clerk. In whatever order events arrive, the newest state remains. Other types are ignored."""
    apply = _APPLY.get(event.type)
    if apply is not None:
        await apply(session, event)


async def _apply_user(session: AsyncSession, event: ClerkEvent) -> None:
    user = rules.parse(ClerkUser, event.data)
    values = {
        "first_name": rules.clean_or_empty(user.first_name),
        "last_name": rules.clean_or_empty(user.last_name),
        "email": rules.clean_or_empty(rules.primary_email(user)),
    }
    times = rules.times_of(event, user.created_at, user.updated_at)
    await repository.save_newer(session, users, key={"clerk_id": user.id}, values=values, times=times)


async def _delete_user(session: AsyncSession, event: ClerkEvent) -> None:
    key = {"clerk_id": rules.parse(ClerkDeleted, event.data).id}
    await repository.mark_deleted(session, users, key=key, deleted_at=rules.deleted_at(event))


async def _apply_organisation(session: AsyncSession, event: ClerkEvent) -> None:
    given = rules.parse(ClerkOrganisation, event.data)
    before = await repository.lock_organisation(session, given.id)
    values = {"name": rules.clean_or_empty(given.name), "slug": rules.clean_or_empty(given.slug)}
    times = rules.times_of(event, given.created_at, given.updated_at)
    key = {"organisation_id": given.id}
    await repository.save_newer(session, organisations, key=key, values=values, times=times)
    if before is not None and not before.is_active:
        await _publish_if_changed(session, given.id, was_active=False)


async def _delete_organisation(session: AsyncSession, event: ClerkEvent) -> None:
    await _close(session, rules.parse(ClerkDeleted, event.data).id, rules.deleted_at(event))


async def _close(session: AsyncSession, organisation_id: str, closed_at: datetime) -> bool:
    """Mark an organisation as deleted. Return whether this closed it."""
    before = await repository.lock_organisation(session, organisation_id)
    key = {"organisation_id": organisation_id}
    await repository.mark_deleted(session, organisations, key=key, deleted_at=closed_at)
    if before is not None and not before.is_active:
        return False
    return await _publish_if_changed(session, organisation_id, was_active=True)


async def list_organisations(session: AsyncSession, limit: int, after: str | None) -> list[ListedOrganisation]:
    """Return organisations by id, closed ones too. `after` is the last id of the page before."""
    return await repository.page_organisations_all_tenants(session, limit, after or "")


async def find_organisation(session: AsyncSession, organisation_id: str) -> ListedOrganisation | None:
    """Return an organisation, or None if it is not known."""
    return await repository.find_organisation_all_tenants(session, organisation_id)


async def close_organisation(session: AsyncSession, organisation_id: str) -> bool:
    """Close an organisation that is known, as when Clerk reports its deletion. Return whether this closed it.

    Its contacts and groups are deleted. The other services cancel and refuse what is left, after the event.
    """
    return await _close(session, organisation_id, datetime.now(UTC))


async def _publish_if_changed(session: AsyncSession, organisation_id: str, *, was_active: bool) -> bool:
    """Publish that an organisation was closed or opened again, if it was, and return whether it was.

    Delete what a closed organisation has.
    """
    now = await repository.lock_organisation(session, organisation_id)
    if now is None or now.is_active == was_active:
        return False
    version = await repository.increment_version(session, organisation_id)
    if not now.is_active:
        await contacts_service.delete_contacts_of_organisation(session, organisation_id)
        await groups_service.delete_groups_of_organisation(session, organisation_id)
    await publish(
        session,
        [OrganisationChanged(organisation_id=organisation_id, closed=not now.is_active, version=version)],
    )
    return True


async def republish_organisations(session: AsyncSession, since: datetime, after_id: str, batch: int) -> str | None:
    """Publish again a batch of the organisations that were ever closed and changed after `since`.

    `after_id` is the id at which the last batch ended, "" at first. Return the id at which this batch ended, or None
    when there is no more.
    """
    changed = await repository.list_changed_since_all_tenants(session, since, after_id, batch)
    events = [
        OrganisationChanged(organisation_id=row.organisation_id, closed=not row.is_active, version=row.version)
        for row in changed
    ]
    await publish(session, events)
    return changed[-1].organisation_id if len(changed) == batch else None


async def _parse_membership(session: AsyncSession, event: ClerkEvent) -> tuple[ClerkMembership, MembershipKey]:
    """Return the membership of an event and its key.

    The event may arrive before those of its user and organisation. Then both are created from what it has of them.
    """
    given = rules.parse(ClerkMembership, event.data)
    organisation, person = given.organization, given.public_user_data
    await repository.ensure_organisation(
        session, organisation.id, rules.clean_or_empty(organisation.name), rules.clean_or_empty(organisation.slug)
    )
    user_id = await repository.ensure_user(
        session,
        person.user_id,
        first_name=rules.clean_or_empty(person.first_name),
        last_name=rules.clean_or_empty(person.last_name),
        email=rules.clean_or_empty(person.identifier) if "@" in (person.identifier or "") else "",
    )
    return given, MembershipKey(organisation.id, user_id)


async def _apply_membership(session: AsyncSession, event: ClerkEvent) -> None:
    given, key = await _parse_membership(session, event)
    times = rules.times_of(event, given.created_at, given.updated_at)
    values = {"role": rules.short_role(given.role)}
    await repository.save_newer(session, memberships, key=key._asdict(), values=values, times=times)


async def _delete_membership(session: AsyncSession, event: ClerkEvent) -> None:
    given, key = await _parse_membership(session, event)
    deleted_at = rules.deleted_at(event, given.updated_at)
    await repository.mark_deleted(session, memberships, key=key._asdict(), deleted_at=deleted_at)


_Apply: TypeAlias = Callable[[AsyncSession, ClerkEvent], Awaitable[None]]
_APPLY: dict[str, _Apply] = {
    "user.created": _apply_user,
    "user.updated": _apply_user,
    "user.deleted": _delete_user,
    "organization.created": _apply_organisation,
    "organization.updated": _apply_organisation,
    "organization.deleted": _delete_organisation,
    "organizationMembership.created": _apply_membership,
    "organizationMembership.updated": _apply_membership,
    "organizationMembership.deleted": _delete_membership,
}
