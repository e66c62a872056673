"""Decide which contact a recipient is, and whether the recipient may be messaged."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from contacts.models import ContactRow, GroupStateRow


class Refusal(StrEnum):
    """The reasons why a recipient must not be messaged."""

    # The contact, its number, or another contact with the number opted out.
    OPTED_OUT = "opted_out"
    # The contact was deleted.
    INACTIVE = "inactive"
    # There is no such contact.
    NOT_FOUND = "not_found"


class Recipient(NamedTuple):
    """The contact and the phone of a message, and why it must not be sent (None: it may be sent)."""

    contact: ContactRow | None
    phone: str
    refusal: Refusal | None


class Audience(NamedTuple):
    """A group, the number of its members who may be messaged, and the first of them by id, read in one snapshot."""

    group: GroupStateRow
    eligible_count: int
    members: list[ContactRow]


def choose_recipient(
    found: Sequence[ContactRow], *, contact_id: int | None, phone: str | None, number_opted_out: bool
) -> Recipient:
    """Return the recipient with this contact or phone.

    `found` are the contacts with the id or the phone. An opt-out of any of them refuses the message, also when that
    contact was deleted.
    """
    named = next((contact for contact in found if contact.id == contact_id), None)
    if contact_id is not None and named is None:
        return Recipient(None, phone or "", Refusal.NOT_FOUND)
    contact = named or next((contact for contact in found if contact.is_active), None)
    refusal = None
    if number_opted_out or any(contact.opt_out for contact in found):
        refusal = Refusal.OPTED_OUT
    elif named is not None and not named.is_active:
        refusal = Refusal.INACTIVE
    return Recipient(contact, phone or (contact.phone if contact else ""), refusal)
