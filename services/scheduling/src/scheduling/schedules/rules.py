"""What a schedule becomes when it is written: pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from common.errors import Invalid
from common.events import ContactState, Format
from common.fields import show_time
from scheduling.models import Schedule
from scheduling.texts.service import Names, check_message

HORIZON = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message goes. `own_phone`: the phone was given by itself and does not follow the contact."""

    phone: str
    contact_id: int | None = None
    contact_version: int = 0
    own_phone: bool = False
    first_name: str = ""
    last_name: str = ""
    company: str = ""

    @property
    def names(self) -> Names | None:
        """What fills placeholders; None without a contact."""
        return Names(self.first_name, self.last_name, self.company) if self.contact_id is not None else None

    @classmethod
    def of(cls, contact: ContactState | None, phone: str, own_phone: bool = False) -> "Address":
        """The address of a contact, or of a bare phone."""
        if contact is None:
            return cls(phone)
        return cls(
            phone,
            contact.contact_id,
            contact.version,
            own_phone,
            contact.first_name,
            contact.last_name,
            contact.company,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """What a message says, and when it goes. Name and group are notes: one message still goes to one recipient."""

    text: str
    format: Format
    scheduled_time: datetime
    template_id: int | None = None
    template_version: int | None = None
    media_url: str | None = None
    subject: str | None = None
    name: str | None = None
    group_id: int | None = None


@dataclass(frozen=True, slots=True)
class SendNow:
    """What a schedule has whose first run begins as it is written; `waited`: whoever sends waits for its outcome."""

    message_parts: int
    hold: UUID | None
    sweep_after_s: float
    waited: bool


def check_draft(draft: Draft, address: Address, max_parts: int, field: str = "text") -> int:
    """The parts of a message that can go out. Raises Invalid under `field` or `media_url`."""
    check_media(draft.format, draft.media_url)
    return check_message(draft.format, draft.text, address.names, max_parts, field)


def check_media(message_format: Format, media_url: str | None) -> None:
    """Raises Invalid under `media_url` for an MMS without media."""
    if message_format == "mms" and not media_url:
        raise Invalid.field("media_url", "An MMS needs a media_url.")


def check_time(moment: datetime, now: datetime) -> datetime:
    """A time that can be scheduled. Raises Invalid under `scheduled_time`."""
    if moment <= now:
        raise Invalid.field("scheduled_time", "Enter a time in the future.")
    if moment > now + HORIZON:
        raise Invalid.field("scheduled_time", f"Enter a time within the next {HORIZON.days} days.")
    return moment


def address_of(row: Schedule) -> Address:
    """Where a schedule goes now."""
    assert row.phone is not None
    return Address(
        row.phone, row.contact_id, row.contact_version, row.own_phone, row.first_name, row.last_name, row.company
    )


def draft_of(row: Schedule) -> Draft:
    """What a schedule says now."""
    return Draft(
        row.text,
        row.format,
        row.scheduled_time,
        row.template_id,
        row.template_version,
        row.media_url,
        row.subject,
        row.name,
        row.group_id,
    )


def with_text(draft: Draft, text: str, shown: str) -> Draft:
    """The draft with a text and no template. The text that is shown may be written back: it changes nothing."""
    return replace(draft, text=draft.text if text == shown else text, template_id=None, template_version=None)


def is_same_time(first: datetime, second: datetime) -> bool:
    """Whether two times are shown alike: what was read may be written back."""
    return show_time(first) == show_time(second)
