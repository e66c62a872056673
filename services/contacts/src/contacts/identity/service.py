"""Who is asking; and the users, organisations and memberships that Clerk tells of."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Forbidden, NotFound
from common.events import OrganisationChanged
from common.outbox import publish
from common.paging import Page, Paginated, Pagination
from contacts.contacts import service as contacts_service
from contacts.groups import service as groups_service
from contacts.identity import repository, rules
from contacts.identity.schemas import (
    ClerkDeleted,
    ClerkEvent,
    ClerkMembership,
    ClerkOrganisation,
    ClerkUser,
    IdentityIn,
    IdentityOut,
    MeOut,
    OrganisationContext,
    UserOut,
)
from contacts.models import memberships, organisations, users


async def identify(session: AsyncSession, asked: IdentityIn) -> IdentityOut:
    """Who a verified token names, made on first sight. Raises Forbidden for whom Clerk deleted.

    The ordinary case is one statement.
    """
    names = asked.clerk_user_id, asked.clerk_organisation_id
    found = await repository.find_identity_all_tenants(session, *names)
    known = (found.user, found.organisation, found.membership)
    if None in known and False not in known:
        await repository.see_organisation(session, asked.clerk_organisation_id, "", asked.organisation_slug)
        user_id = await repository.see_user(session, asked.clerk_user_id)
        await repository.see_membership(
            session, asked.clerk_organisation_id, user_id, rules.short_role(asked.role), asked.first_seen_at
        )
        found = await repository.find_identity_all_tenants(session, *names)
    if not found.user:
        raise Forbidden("This user was removed.")
    if not found.organisation:
        raise Forbidden("This organisation was closed.")
    if not found.membership:
        raise Forbidden("This user is no longer a member of the organisation.")
    return IdentityOut(organisation_id=asked.clerk_organisation_id, user_id=found.user_id)


async def list_users(session: AsyncSession, page: Page) -> Paginated[UserOut]:
    """A page of the organisation's members, by name."""
    rows, total = await repository.page_users(session, page)
    return Paginated(results=[UserOut.model_validate(row) for row in rows], pagination=Pagination.of(page, total))


async def get_user(session: AsyncSession, user_id: int) -> UserOut:
    """A user who is or was a member. Raises NotFound."""
    return UserOut.model_validate(await repository.get_user(session, user_id))


async def get_me(session: AsyncSession, caller: Caller) -> MeOut:
    """The user who asks, with the organisation. Raises NotFound for a caller who is nobody."""
    if caller.user_id is None:
        raise NotFound
    user = await repository.get_user(session, caller.user_id)
    organisation = await repository.get_organisation(session)
    context = OrganisationContext(
        clerk_org_id=organisation.organisation_id,
        name=organisation.name,
        slug=organisation.slug or caller.organisation_slug,
        role=caller.role,
        permissions=list(caller.permissions),
    )
    return MeOut.model_validate({**user._mapping, "organisation": context})


async def apply_event(session: AsyncSession, event: ClerkEvent) -> None:
    """Takes over what Clerk says. Deliveries end in the newest state, whatever their order; unknown types pass."""
    applies = _APPLY.get(event.type)
    if applies is not None:
        await applies(session, event)


async def _apply_user(session: AsyncSession, event: ClerkEvent) -> None:
    user = rules.read(ClerkUser, event.data)
    values = {
        "first_name": rules.line(user.first_name),
        "last_name": rules.line(user.last_name),
        "email": rules.line(rules.primary_email(user)),
    }
    times = rules.times_of(event, user.created_at, user.updated_at)
    await repository.apply(session, users, {"clerk_id": user.id}, values, times)


async def _delete_user(session: AsyncSession, event: ClerkEvent) -> None:
    key = {"clerk_id": rules.read(ClerkDeleted, event.data).id}
    await repository.delete(session, users, key, rules.deleted_at(event))


async def _apply_organisation(session: AsyncSession, event: ClerkEvent) -> None:
    told = rules.read(ClerkOrganisation, event.data)
    before = await repository.lock_organisation(session, told.id)
    values = {"name": rules.line(told.name), "slug": rules.line(told.slug)}
    times = rules.times_of(event, told.created_at, told.updated_at)
    await repository.apply(session, organisations, {"organisation_id": told.id}, values, times)
    if before is not None and not before.is_active:
        await _tell_whether_closed(session, told.id, was_active=False)


async def _delete_organisation(session: AsyncSession, event: ClerkEvent) -> None:
    organisation_id = rules.read(ClerkDeleted, event.data).id
    before = await repository.lock_organisation(session, organisation_id)
    await repository.delete(session, organisations, {"organisation_id": organisation_id}, rules.deleted_at(event))
    if before is None or before.is_active:
        await _tell_whether_closed(session, organisation_id, was_active=True)


async def _tell_whether_closed(session: AsyncSession, organisation_id: str, *, was_active: bool) -> None:
    """When an organisation was closed or opened just now, others hear of it; what is in a closed one is deleted."""
    now = await repository.lock_organisation(session, organisation_id)
    if now is None or now.is_active == was_active:
        return
    version = await repository.raise_version(session, organisation_id)
    if not now.is_active:
        await contacts_service.deactivate_all(session, organisation_id)
        await groups_service.deactivate_all(session, organisation_id)
    changed = OrganisationChanged(organisation_id=organisation_id, closed=not now.is_active, version=version)
    await publish(session, [changed])


async def republish_organisations(session: AsyncSession, since: datetime, after_id: str, batch: int) -> str | None:
    """Publishes again a batch of the organisations that were closed, or opened again, and changed since then.

    `after_id` is where the last batch ended, "" at first; returns where this one did, None when there is no more.
    """
    rows = await repository.list_changed_since_all_tenants(session, since, after_id, batch)
    events = [
        OrganisationChanged(organisation_id=row.organisation_id, closed=not row.is_active, version=row.version)
        for row in rows
    ]
    await publish(session, events)
    return rows[-1].organisation_id if len(rows) == batch else None


async def _membership(session: AsyncSession, event: ClerkEvent) -> tuple[ClerkMembership, dict[str, object]]:
    """A membership may be told of before its user and organisation are: they are made as far as it knows them."""
    told = rules.read(ClerkMembership, event.data)
    organisation, person = told.organization, told.public_user_data
    await repository.see_organisation(
        session, organisation.id, rules.line(organisation.name), rules.line(organisation.slug)
    )
    user_id = await repository.see_user(
        session,
        person.user_id,
        first_name=rules.line(person.first_name),
        last_name=rules.line(person.last_name),
        email=rules.line(person.identifier) if "@" in (person.identifier or "") else "",
    )
    return told, {"organisation_id": organisation.id, "user_id": user_id}


async def _apply_membership(session: AsyncSession, event: ClerkEvent) -> None:
    told, key = await _membership(session, event)
    times = rules.times_of(event, told.created_at, told.updated_at)
    await repository.apply(session, memberships, key, {"role": rules.short_role(told.role)}, times)


async def _delete_membership(session: AsyncSession, event: ClerkEvent) -> None:
    told, key = await _membership(session, event)
    await repository.delete(session, memberships, key, rules.deleted_at(event, told.updated_at))


_APPLY: dict[str, Callable[[AsyncSession, ClerkEvent], Awaitable[None]]] = {
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
