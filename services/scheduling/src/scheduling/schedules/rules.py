"""The values of a schedule that is written, and the checks on them."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from common.caller import Caller
from common.errors import Invalid
from common.events import ContactState, Format, ScheduleDue
from common.fields import show_time
from scheduling.models import Address, Content, Schedule, ScheduleKind
from scheduling.templates.rules import fill, find_unknown_placeholder
from scheduling.texts.rules import check_message

HORIZON = timedelta(days=366)
SOON = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before it is written. Name and group are notes: a single message goes to its one recipient."""

    content: Content
    scheduled_time: datetime
    name: str | None = None
    group_id: int | None = None


@dataclass(frozen=True, slots=True)
class SendNow:
    """A schedule that is dispatched as it is written, with the event of its first dispatch."""

    caller: Caller
    draft: Draft
    address: Address
    event: ScheduleDue
    sweep_after_s: float
    outcome_awaited: bool


def contact_address(contact: ContactState | None, phone: str, *, has_own_phone: bool = False) -> Address:
    """Return the address of a contact, or of a phone alone."""
    if contact is None:
        return Address(phone)
    return Address(
        phone=phone,
        contact_id=contact.contact_id,
        contact_version=contact.version,
        has_own_phone=has_own_phone,
        fields=contact.fields,
    )


def draft_of(row: Schedule) -> Draft:
    """Return the current values of a schedule."""
    return Draft(row.content, row.scheduled_time, name=row.name, group_id=row.group_id)


def draft_columns(draft: Draft) -> dict[str, Any]:
    """Return a draft's values by column."""
    notes = {"scheduled_time": draft.scheduled_time, "name": draft.name, "group_id": draft.group_id}
    return {**asdict(draft.content), **notes}


def address_columns(address: Address) -> dict[str, Any]:
    """Return an address's values by column."""
    return {
        "phone": address.phone,
        "contact_id": address.contact_id,
        "contact_version": address.contact_version,
        "has_own_phone": address.has_own_phone,
        "fields": json.dumps(dict(address.fields)),
    }


def is_soon(moment: datetime, now: datetime) -> bool:
    """Return whether a time comes before dispatch looks again by itself."""
    return moment - now < SOON


def new_columns(draft: Draft, address: Address, caller: Caller, request_id: str) -> dict[str, Any]:
    """Return the values of a new single schedule by column, without those of its dispatch."""
    values = {**draft_columns(draft), **address_columns(address), "outcome_awaited": False}
    return {**values, "request_id": request_id, "created_by": caller.user_id, "updated_by": caller.user_id}


def check_draft(draft: Draft, address: Address, max_parts: int, field: str = "text") -> int:
    """Return the parts of a message that can be sent. Raises Invalid under `field` or `media_url`."""
    content = draft.content
    check_media(content.format, content.media_url)
    return check_message(
        message_format=content.format,
        text=content.text,
        fields=address.placeholder_values,
        max_parts=max_parts,
        field=field,
    )


def check_media(message_format: Format, media_url: str | None) -> None:
    """Raise Invalid under `media_url` for an MMS without media."""
    if message_format == "mms" and not media_url:
        raise Invalid.field("media_url", "An MMS needs a media_url.")


def check_time(moment: datetime, now: datetime) -> datetime:
    """Return a time if a message can be scheduled for it. Raises Invalid under `scheduled_time`."""
    if moment <= now:
        raise Invalid.field("scheduled_time", "Enter a time in the future.")
    if moment > now + HORIZON:
        raise Invalid.field("scheduled_time", f"Enter a time within the next {HORIZON.days} days.")
    return moment


def shown_text(row: Schedule) -> str:
    """Return the text that the API shows: that of a batch as written, all others filled."""
    return row.text if row.kind == ScheduleKind.BATCH else fill(row.text, row.fields)


def with_text(content: Content, text: str, shown: str) -> Content:
    """Return the content with another text and no template. The shown text changes nothing: it was read before.

    Raises Invalid for a new text with an unknown placeholder.
    """
    if text == shown:
        text = content.text
    elif fault := find_unknown_placeholder(text):
        raise Invalid.field("text", fault)
    return replace(content, text=text, template_id=None, template_version=None)


def is_same_time(first: datetime, second: datetime) -> bool:
    """Return whether the API shows two times alike. A client may write back a time that it has read."""
    return show_time(first) == show_time(second)
