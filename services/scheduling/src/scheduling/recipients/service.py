"""Who messages go to: asked of contacts on writing, and followed while a schedule is pending."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid
from common.events import ContactChanged, ContactState
from scheduling.clients.contacts import Contacts, Group, Recipient
from scheduling.errors import RecipientOptedOut
from scheduling.recipients import repository


async def get_recipient(
    contacts: Contacts, caller: Caller, contact_id: int | None, phone: str | None, field: str
) -> Recipient:
    """The recipient that a body names. Raises NotFound; RecipientOptedOut or Invalid under `field`."""
    recipient = await contacts.find_recipient(caller, contact_id, phone)
    check_recipient(recipient, field)
    return recipient


def check_recipient(recipient: Recipient, field: str) -> None:
    """Raises RecipientOptedOut or Invalid under `field` for one that may not be written to."""
    if recipient.refused == "opted_out":
        raise RecipientOptedOut.field(field, "This recipient has opted out.")
    if recipient.refused == "inactive":
        raise Invalid.field(field, "This contact has been deleted.")


async def find_group(contacts: Contacts, caller: Caller, group_id: int | None) -> Group | None:
    """The group that a body names, None when it names none. Raises NotFound."""
    return None if group_id is None else await contacts.get_group(caller, group_id)


def check_group(group: Group | None) -> None:
    """Raises Invalid under `group_id` for one that was deleted."""
    if group is not None and not group.is_active:
        raise Invalid.field("group_id", "This group has been deleted.")


async def follow_contacts(session: AsyncSession, events: Sequence[ContactChanged]) -> None:
    """Keeps the newest state of each contact, and brings its pending schedules to it.

    They are filled again; a deleted contact's are cancelled, an opted-out one's failed (api.md, Contacts).
    """
    newest: dict[tuple[str, int], ContactState] = {}
    for event in events:
        for contact in event.contacts:
            key = (event.organisation_id, contact.contact_id)
            if key not in newest or newest[key].version < contact.version:
                newest[key] = contact
    contacts = [(key[0], newest[key]) for key in sorted(newest)]
    await repository.keep_all_tenants(session, contacts)
    await repository.apply_to_contacts_all_tenants(session, contacts)


async def catch_up(session: AsyncSession, schedule_ids: Sequence[int]) -> None:
    """Applies what was heard before these schedules were written with an older state of their contacts."""
    await repository.apply_to_schedules_all_tenants(session, schedule_ids)


async def forget_old_changes(session: AsyncSession) -> None:
    """Changes are kept for a day."""
    await repository.forget_all_tenants(session)
