"""Rules of contacts that need no database: fields, searching, opt-outs, and what other services must know."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import email_validator

from common.errors import Invalid
from common.events import PLACEHOLDERS, ContactChanged, ContactState
from common.fields import MAX_ID, NO_ID, clean_text
from contacts.models import ContactRow, NumberOptOut, OptOutSource

# The text fields with their maximum lengths in characters. An import fills these and the phone.
MAX_LENGTHS = {"first_name": 100, "last_name": 100, "email": 254, "company": 200}
IMPORT_FIELDS = ("phone", *MAX_LENGTHS)
# The columns of a contact that the API shows.
SHOWN_COLUMNS = (
    *("id", *IMPORT_FIELDS, "user_id", "is_active"),
    *("opt_out", "opted_out_at", "opt_out_source", "opt_out_message_id"),
    *("created_by", "updated_by", "created_at", "updated_at"),
)
# Other services have copies of these. A change of one of them raises the contact's version and is published.
PUBLISHED = frozenset({*PLACEHOLDERS, "phone", "is_active", "opt_out", "opt_in_confirmed_at"})
# The columns of a contact that opts in.
OPTED_IN: Mapping[str, Any] = {
    "opt_out": False,
    "opted_out_at": None,
    "opt_out_source": None,
    "opt_out_message_id": None,
}
ERASED = "erased-"  # the phone of an erased contact is this and its id
# Whether there is any erased opt-out. PostgreSQL finds it out once for a statement. Because of the order it reads one
# row of the index, also in a tenant session and among many rows of other organisations.
ANY_ERASED = "coalesce((SELECT true FROM erased_opt_outs ORDER BY organisation_id, phone_hash LIMIT 1), false)"
# The row e of the erased opt-outs is that of a phone at an organisation.
IS_ERASED = "e.organisation_id = {organisation} AND e.phone_hash = erased_phone_hash({organisation}, {phone})"
# The opt-out of a number, also of one whose phone was erased since.
NUMBER_OPT_OUT = f"""
    SELECT changed_at, source, message_id FROM opt_outs number
    WHERE number.phone = {{phone}} AND number.organisation_id = {{organisation}} AND number.opted_out
    UNION ALL
    SELECT changed_at, source, CAST(NULL AS bigint) FROM erased_opt_outs e WHERE {ANY_ERASED} AND {IS_ERASED}
    LIMIT 1
"""  # noqa: S608  # constants
_PHONE_SEPARATORS = str.maketrans("", "", " ().-")  # as people write phones
_WILDCARDS = re.compile(r"([\\%_])")
_PLAIN_EMAIL = re.compile(
    r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z][a-zA-Z0-9-]{0,61}[a-zA-Z0-9]"
)
# Every address in ASCII that the library accepts matches this.
_MAYBE_EMAIL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@(?:[a-z0-9.-]+\.[a-z0-9-]+|test)", re.IGNORECASE)


def check_email(email: str) -> str:
    """Return the address unchanged if it is empty or has the form of an email address. Raises ValueError."""
    if not email or (len(email) <= MAX_LENGTHS["email"] and _PLAIN_EMAIL.fullmatch(email)):
        return email
    if (email.isascii() and not _MAYBE_EMAIL.fullmatch(email)) or not _is_email(email):
        raise ValueError("Enter a valid email address.")
    return email


@lru_cache(maxsize=1000)
def _is_email(email: str) -> bool:
    """Return whether the library accepts an address, also an international one. This takes 10 µs to 1 ms."""
    try:
        email_validator.validate_email(email, check_deliverability=False, test_environment=True)
    except email_validator.EmailNotValidError:
        return False
    return True


def opt_out_manually(now: datetime) -> dict[str, Any]:
    """Return the columns of a contact that a person opts out in the API."""
    return {
        "opt_out": True,
        "opted_out_at": now,
        "opt_out_source": OptOutSource.MANUAL.value,
        "opt_in_confirmed_at": None,
    }


class ErasedOptOut(NamedTuple):
    """An opt-out of a number whose phone was erased, without the hash of the phone."""

    organisation_id: str
    changed_at: datetime
    source: str
    version: int


def opt_out_with_number(number: NumberOptOut) -> dict[str, Any]:
    """Return the columns of a contact whose number opted out before the contact had it."""
    return {
        "opt_out": True,
        "opted_out_at": number.changed_at,
        "opt_out_source": number.source,
        "opt_out_message_id": number.message_id,
        "opt_in_confirmed_at": None,
    }


def is_erased(contact: ContactRow) -> bool:
    """Return whether the contact was erased. It has no phone and stays deleted."""
    return contact.phone.startswith(ERASED)


def must_publish(before: ContactRow, changes: Mapping[str, Any]) -> bool:
    """Return whether the changes of a contact must be published."""
    return any(name in changes and changes[name] != getattr(before, name) for name in PUBLISHED)


def contact_state(contact: ContactRow) -> ContactState:
    """Return the contact as other services need it."""
    return ContactState(
        contact_id=contact.id,
        version=contact.version,
        phone=contact.phone,
        fields={name: getattr(contact, name) for name in PLACEHOLDERS},
        is_active=contact.is_active,
        opt_out=contact.opt_out,
        opt_out_source=contact.opt_out_source,
        opted_out_at=contact.opted_out_at,
        opt_in_confirmed_at=contact.opt_in_confirmed_at,
    )


def contact_events(changed: Iterable[ContactRow]) -> list[ContactChanged]:
    """Return the events that publish the contacts: those of one organisation together, in their order."""
    states: dict[str, list[ContactState]] = defaultdict(list)
    for contact in changed:
        states[contact.organisation_id].append(contact_state(contact))
    size = ContactChanged.MAX_CONTACTS
    return [
        ContactChanged(organisation_id=organisation_id, contacts=tuple(found[start : start + size]))
        for organisation_id, found in states.items()
        for start in range(0, len(found), size)
    ]


def search_patterns(search: str) -> list[str]:
    """Return the LIKE patterns of a search: for names and, if it has only digits and separators, for phones.

    The statement folds the case of the patterns, as the index folds the names.

    Raises Invalid for characters that cannot be searched for.
    """
    if "\0" in search:
        raise Invalid.field("search", "Null characters are not allowed.")
    try:
        wanted = clean_text(search)
    except ValueError as error:
        raise Invalid.field("search", str(error)) from None
    patterns = [containing(wanted)] if wanted else []
    digits = wanted.translate(_PHONE_SEPARATORS).removeprefix("+")
    if digits.isascii() and digits.isdigit():
        if digits.startswith("6104"):  # +61 (0)4…
            digits = "61" + digits[3:]
        patterns.append(containing(digits))
        if digits.startswith("614"):
            patterns.append(containing("0" + digits[2:]))
    return patterns


def containing(wanted: str) -> str:
    """Return the LIKE pattern for texts that contain `wanted` literally."""
    return "%" + _WILDCARDS.sub(r"\\\1", wanted) + "%"


def parse_id_filter(name: str, given: str | None) -> int | None:
    """Return the id of a query parameter, or None if it is empty. An id that no row can have becomes NO_ID.

    Raises Invalid under `name` when it is not a whole number.
    """
    if not given:
        return None
    if not (given.isascii() and given.isdigit()):
        raise Invalid.field(name, "Enter a whole number.")
    return int(given) if len(given) < 20 and int(given) <= MAX_ID else NO_ID
