"""Use cases of contacts. They run in the caller's transaction and publish what other services must know."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.combining import Combiner
from common.database import wake_after_commit
from common.errors import Invalid, NotFound
from common.events import OptOutChanged
from common.outbox import publish
from common.paging import Page
from common.statements import Tenant
from common.versions import newest
from contacts.contacts import lists, repository, rules
from contacts.errors import ContactErased, NumberOptedOut
from contacts.models import ContactRow, ImportedRow

SEARCH_INDEX = "search index"  # the event that wakes the loop which cleans the search index


async def list_contacts(
    tenant: Tenant, page: Page, *, search: str, exclude_group_id: int | None
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Return a page of the active contacts, the newest first, and how many there are.

    Raises NotFound for a group that does not exist, and Invalid for a search that cannot be run.
    """
    patterns = rules.search_patterns(search)
    if exclude_group_id is not None and not await lists.group_exists(tenant, exclude_group_id):
        raise NotFound
    return await lists.read_page(tenant, page, patterns=patterns, exclude_group_id=exclude_group_id)


async def list_members(session: AsyncSession, page: Page, group_id: int) -> list[ContactRow]:
    """Return a page of a group's active members by name."""
    return await lists.page_of_group(session, page, group_id)


async def get_contact(tenant: Tenant, contact_id: int) -> Mapping[str, Any]:
    """Return a contact, active or deleted. Raises NotFound."""
    return await repository.read(tenant, contact_id)


class NewContact(NamedTuple):
    """A contact that a request adds."""

    tenant: Tenant
    given: Mapping[str, Any]
    user_id: int | None


NewContacts: TypeAlias = Combiner[NewContact, Mapping[str, Any] | None]


async def add_new_contacts(new: Sequence[NewContact]) -> Sequence[Mapping[str, Any] | None]:
    """Add contacts of one organisation in the usual case, in one statement. Return None for each other one."""
    return await repository.add_new(new[0].tenant, [(contact.given, contact.user_id) for contact in new])


async def create_new_contact(
    tenant: Tenant, caller: Caller, combiner: NewContacts, given: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Add a contact in the usual case: its phone is new and not opted out, and no user and no opt-out are given.

    Return the contact, or None when `create_contact` must decide.
    """
    if given.get("user") is not None or given.get("opt_out"):
        return None
    new = NewContact(tenant, given, caller.user_id)
    return await combiner.run(tenant.organisation_id, new, alone=tenant.is_keyed)


async def create_contact(session: AsyncSession, caller: Caller, given: Mapping[str, Any]) -> ContactRow:
    """Add a contact, or restore the deleted contact with this phone.

    The contact is opted out if its number is, whatever `given` says. Raises PhoneExists, NotFound for an unknown
    user, and Invalid for a user who is no longer a member.
    """
    values = _columns(given)
    await _check_user(session, values.get("user_id"))
    opt_out = await repository.find_opt_out(session, values["phone"])
    if opt_out is not None:
        values |= rules.opt_out_with_number(opt_out)
    elif values.get("opt_out"):
        values |= rules.opt_out_manually(datetime.now(UTC))
    contact = await repository.add(session, values, caller.user_id)
    if contact.version > 1 or contact.opt_out:
        await _publish(session, [contact])
    return contact


async def update_contact(
    session: AsyncSession, caller: Caller, contact_id: int, changes: Mapping[str, Any]
) -> ContactRow:
    """Change a contact. Without changes it stays as it is.

    Raises NotFound for an unknown contact or user, PhoneExists, NumberOptedOut, ContactErased, and Invalid for a user
    who is no longer a member.
    """
    before, values = await repository.lock(session, contact_id), _columns(changes)
    if rules.is_erased(before):
        raise ContactErased
    confirmed = values.pop("confirm_opt_in", False)
    if not values:
        return before
    if values.get("user_id") != before.user_id:
        await _check_user(session, values.get("user_id"))
    phone = values.get("phone", before.phone)
    if phone != before.phone:
        values["opt_in_confirmed_at"] = None  # the consent was given for the old number
    wanted = values.pop("opt_out", None)
    values |= await _opt_out_columns(session, before, wanted=wanted, phone=phone, confirmed=confirmed)
    must_publish = rules.must_publish(before, values)
    if must_publish:
        values["version"] = before.version + 1
    contact = await repository.change(session, contact_id, values, caller.user_id)
    if must_publish:
        await _publish(session, [contact])
    return contact


async def _opt_out_columns(
    session: AsyncSession, before: ContactRow, *, wanted: bool | None, phone: str, confirmed: bool
) -> dict[str, Any]:
    """Return the opt-out columns that change when `opt_out` becomes `wanted` (None: not given) or the phone changes.

    A number that opted out opts its contact out. A person can set `opt_out` to false for such a number only with a
    confirmed new consent, which is published so that delivery opts the number in. Raises NumberOptedOut.
    """
    now = datetime.now(UTC)
    if wanted:
        return {} if before.opt_out else rules.opt_out_manually(now)
    if wanted is None and (before.opt_out or phone == before.phone):
        return {}
    opt_out = await repository.find_opt_out(session, phone)
    if wanted is None:
        return {} if opt_out is None else rules.opt_out_with_number(opt_out)
    if opt_out is None:
        return dict(rules.OPTED_IN)
    if not confirmed:
        raise NumberOptedOut
    await repository.withdraw_opt_out(session, phone, now)
    return {**rules.OPTED_IN, "opt_in_confirmed_at": now}


async def delete_contact(session: AsyncSession, caller: Caller, contact_id: int) -> ContactRow:
    """Delete a contact softly and return it. A deleted contact stays as it is. Raises NotFound."""
    contact = await repository.lock(session, contact_id)
    return await update_contact(session, caller, contact_id, {"is_active": False}) if contact.is_active else contact


def _columns(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"user_id" if name == "user" else name: value for name, value in given.items()}


async def _check_user(session: AsyncSession, user_id: int | None) -> None:
    if user_id is None:
        return
    is_member = await repository.find_membership(session, user_id)
    if is_member is None:
        raise NotFound
    if not is_member:
        raise Invalid.field("user", "This user is no longer a member. Choose another user.")


async def require_active(session: AsyncSession, contact_ids: Sequence[int], field: str) -> None:
    """Raise NotFound if one of the contacts does not exist, and Invalid under `field` if one is deleted."""
    found = await repository.list_activity(session, contact_ids)
    if len(found) < len(set(contact_ids)):
        raise NotFound
    deleted = sorted(contact_id for contact_id, is_active in found.items() if not is_active)
    if deleted:
        raise Invalid.field(field, f"These contacts were deleted: {', '.join(map(str, deleted[:20]))}.")


async def begin_import(session: AsyncSession) -> bool:
    """Prepare the transaction for an import. Return False while another import of the organisation runs."""
    return await repository.begin_import(session)


async def begin_long_import(session: AsyncSession) -> None:
    """Prepare the transaction for an import that may take 300 s, and wait until no other of the organisation runs."""
    await repository.begin_long_import(session)


async def import_rows(
    session: AsyncSession,
    caller: Caller,
    columns: Mapping[str, Sequence[str]],
    *,
    update_existing: bool,
    with_new: bool,
) -> list[ImportedRow]:
    """Add, restore or (with `update_existing`) change the contacts of a batch of rows, and publish the changed ones.

    `columns` has the cleaned values of each of `rules.IMPORT_FIELDS`. A phone must be unique in the batch. An empty
    value changes nothing. Return the results of the rows, those of new contacts that are not opted out only
    `with_new`.
    """
    written = await repository.import_rows(
        session, columns, caller.user_id, update_existing=update_existing, with_new=with_new
    )
    wake_after_commit(session, SEARCH_INDEX)
    changed = [
        row.contact_id for row in written if row.contact_id is not None and (row.was_active is not None or row.opt_out)
    ]
    if changed:
        await _publish(session, await repository.list_by_ids(session, changed))
    return written


async def clean_search_index(session: AsyncSession) -> int:
    """Move what was written lately from the pending list of the search index into the index. Return its pages."""
    return await repository.clean_search_index_all_tenants(session)


async def delete_contacts_of_organisation(session: AsyncSession, organisation_id: str) -> None:
    """Delete all contacts of a closed organisation softly.

    Nothing is published for the single contacts. Other services learn it from OrganisationChanged.
    """
    await repository.delete_of_organisation_all_tenants(session, organisation_id)


async def apply_opt_out_changed(session: AsyncSession, events: Sequence[OptOutChanged]) -> None:
    """Save the newest state of each number, then opt contacts with these numbers out or in."""
    states = newest(events, key=lambda event: (event.phone, event.organisation_id), version=lambda event: event.version)
    await repository.save_opt_outs_all_tenants(session, list(states.values()))
    await apply_opt_outs(session)


async def apply_opt_outs(session: AsyncSession) -> bool:
    """Opt contacts out or in by the opt-outs of the last 10 minutes. Return whether any contact changed."""
    changed = await repository.apply_opt_outs_all_tenants(session)
    await _publish(session, changed)
    return bool(changed)


async def republish_contacts(session: AsyncSession, since: datetime, after_id: int, batch: int) -> int | None:
    """Publish again a batch of the contacts of all organisations that other services have copies of.

    These are the contacts that changed after `since`. `after_id` is the id at which the last batch ended, 0 at first.
    Return the id at which this batch ended, or None when there is no more.
    """
    changed = await repository.list_changed_since_all_tenants(session, since, after_id, batch)
    await _publish(session, changed)
    return changed[-1].id if len(changed) == batch else None


async def _publish(session: AsyncSession, changed: Sequence[ContactRow]) -> None:
    await publish(session, rules.contact_events(changed))
