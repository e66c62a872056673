"""The recipients of messages: checked at contacts when a schedule is written, and updated while it is pending."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid
from common.events import ContactChanged, ContactState
from common.versions import newest
from scheduling.clients.contacts import Contacts, Group, Recipient
from scheduling.errors import RecipientOptedOut
from scheduling.recipients import repository
from scheduling.recipients.repository import Change


async def get_recipient(
    contacts: Contacts, caller: Caller, contact_id: int | None, phone: str | None, field: str
) -> Recipient:
    """Return the recipient that a body names. Raises NotFound, or RecipientOptedOut or Invalid under `field`."""
    recipient = await contacts.find_recipient(caller, contact_id, phone)
    check_recipient(recipient, field)
    return recipient


def check_recipient(recipient: Recipient, field: str) -> None:
    """Raise RecipientOptedOut or Invalid under `field` for a recipient that may not be messaged."""
    if recipient.refused == "opted_out":
        raise RecipientOptedOut.field(field, "This recipient has opted out.")
    if recipient.refused == "inactive":
        raise Invalid.field(field, "This contact has been deleted.")


async def find_group(contacts: Contacts, caller: Caller, group_id: int | None) -> Group | None:
    """Return the group that a body names, None when it names none. Raises NotFound."""
    return None if group_id is None else await contacts.get_group(caller, group_id)


def check_group(group: Group | None) -> None:
    """Raise Invalid under `group_id` for a deleted group."""
    if group is not None and not group.is_active:
        raise Invalid.field("group_id", "This group has been deleted.")


async def apply_contact_changed(session: AsyncSession, events: Sequence[ContactChanged]) -> None:
    """Apply the contacts of these events."""
    await apply_contacts(session, [(event.organisation_id, contact) for event in events for contact in event.contacts])


async def apply_contacts(session: AsyncSession, contacts: Sequence[tuple[str, ContactState]]) -> None:
    """Store the newest state of each (organisation, contact), and bring its pending schedules to it.

    Their phone and placeholder fields follow the contact. Schedules of a deleted contact are cancelled, those of an
    opted-out contact fail.
    """
    changes = newest(
        (Change(organisation, contact) for organisation, contact in contacts),
        key=lambda change: (change.organisation_id, change.contact.contact_id),
        version=lambda change: change.contact.version,
    ).values()
    await repository.save_all_tenants(session, changes)
    await repository.apply_to_contacts_all_tenants(session, changes)


async def apply_stored_changes(session: AsyncSession, schedule_ids: Sequence[int]) -> None:
    """Apply contact changes that arrived before these schedules were inserted from an older copy of the contact."""
    await repository.apply_to_schedules_all_tenants(session, schedule_ids)
