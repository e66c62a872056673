"""Bodies of schedules, and how they are shown."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field

from common.errors import Invalid
from common.events import Category, Format
from common.fields import Audit, Id, Time, line
from common.phones import normalise_phone, show_phone
from scheduling.models import STATUSES, Schedule, Status
from scheduling.texts.service import AnyText, Names, count_parts, fill

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_URL = re.compile(r"https?://[^\s/?#]+[^\s]*", re.IGNORECASE)
_V1: dict[Status, str] = {
    "pending": "PENDING",
    "processing": "PENDING",
    "sent": "SENT",
    "delivered": "SENT",
    "failed": "FAILED",
    "cancelled": "DELETED",
}


def _is_text(given: Any) -> Any:
    if not isinstance(given, datetime) and not (isinstance(given, str) and _DAY.match(given)):
        raise ValueError("Enter a date and time in ISO 8601.")
    return given


def _is_url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise ValueError("Enter a valid http or https URL.")
    return url


WallTime = Annotated[datetime, BeforeValidator(_is_text)]
Phone = Annotated[str, AfterValidator(normalise_phone)]
if TYPE_CHECKING:
    Name = str
    Url = str
    Subject = str
else:
    Name = line(200)
    Url = Annotated[line(2048), AfterValidator(_is_url)]
    Subject = line(64)


class Content(BaseModel):
    """What a message says. A body may name its template either way."""

    template: Id | None = None
    template_id: Id | None = None
    text: AnyText = ""
    format: Format = "sms"
    media_url: Url | None = None
    subject: Subject | None = None


class ContentUpdate(Content):
    """What is left out stays. `template` wins over `text`."""

    scheduled_time: Annotated[WallTime | None, Field(description="without an offset: the organisation's clock")] = None
    status: str = Field("", description="`cancelled` cancels; any other word is ignored")


class ScheduleUpdate(ContentUpdate):
    """What is left out stays. `template` wins over `text`, `contact` over `phone`."""

    name: Name | None = None
    group: Annotated[Id | None, Field(description="a note: the message goes to its one recipient")] = None
    group_id: Id | None = None
    contact: Id | None = None
    contact_id: Id | None = None
    phone: Phone | None = None


class ScheduleCreate(ScheduleUpdate):
    """A text or a template, to a contact or a phone, at a time within the next 366 days. A PUT needs the same."""

    scheduled_time: WallTime


class ScheduleFields(BaseModel):
    """What a schedule shows beside who wrote it."""

    id: int
    name: str | None
    template: int | None
    template_version: int | None
    text: str
    message_parts: int
    contact: int | None
    recipient_name: str | None
    phone: str | None
    group: int | None
    parent: int | None
    group_schedule_id: int | None
    scheduled_time: Time
    sent_time: Time | None
    delivered_time: Time | None
    status: str
    error: str | None
    failure_category: Category | None
    attempts: int
    next_attempt_at: Time | None
    provider: str | None
    format: Format
    media_url: str | None
    subject: str | None


class ScheduleOut(Audit, ScheduleFields):
    """One message to one recipient. `text`, `message_parts`, `phone`, `recipient_name`: as it will be, or was, sent."""


class MediaNames(BaseModel):
    """Files that delivery would remove, 500 at most."""

    names: list[str] = Field(max_length=500)
    since: AwareDatetime


class UsedMedia(BaseModel):
    """Those of them that are still needed."""

    used: list[str]


@dataclass(frozen=True, slots=True)
class Days:
    """The days that a list is asked for, as the query has them."""

    tz: str | None = None
    date: str | None = None
    date_from: str | None = None
    date_to: str | None = None


def show(row: Schedule, v1: bool) -> dict[str, Any]:
    """The fields of ScheduleOut. A parent shows its text as written, its parts as with empty values."""
    filled = fill(row.text, Names(row.first_name, row.last_name, row.company))
    names = f"{row.first_name} {row.last_name}".strip()
    return {
        "id": row.id,
        "name": row.name,
        "template": row.template_id,
        "template_version": row.template_version,
        "text": row.text if row.kind == "parent" else filled,
        "message_parts": count_parts(row.format, filled),
        "contact": row.contact_id,
        "recipient_name": names or None,
        "phone": show_phone(row.phone) if row.phone else None,
        "group": row.group_id,
        "parent": row.parent_id,
        "group_schedule_id": row.parent_id,
        "scheduled_time": row.scheduled_time,
        "sent_time": row.sent_time,
        "delivered_time": row.delivered_time,
        "status": _V1[row.status] if v1 else row.status,
        "error": row.error,
        "failure_category": row.failure_category,
        "attempts": row.attempts,
        "next_attempt_at": row.next_attempt_at,
        "provider": row.provider,
        "format": row.format,
        "media_url": row.media_url,
        "subject": row.subject,
        "created_by": row.created_by,
        "updated_by": row.updated_by,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def read_date(name: str, given: str | None) -> date | None:
    """A day of the query, None when absent. Raises Invalid under its name."""
    if not given:
        return None
    try:
        if _DAY.fullmatch(given):
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise Invalid.field(name, "Enter a date as YYYY-MM-DD.")


def read_flag(name: str, given: str | None) -> bool:
    """A yes or no of the query, no when absent. Raises Invalid under its name."""
    if given not in (None, "", "true", "false", "1", "0"):
        raise Invalid.field(name, "Enter true or false.")
    return given in ("true", "1")


def read_format(given: str | None) -> bool:
    """Whether `?status_format=` asks for v1's words. Raises Invalid under its name."""
    if given not in (None, "", "v1", "v2"):
        raise Invalid.field("status_format", "Enter v1, or leave it out.")
    return given == "v1"


def read_statuses(given: str | None, v1: bool) -> list[Status]:
    """The statuses that `?status=` lists, by default all but cancelled. Raises Invalid under its name."""
    if not given:
        return [status for status in STATUSES if status != "cancelled"]
    words = [word.strip() for word in given.split(",") if word.strip()]
    found = [status for status in STATUSES if (_V1[status] if v1 else status) in words]
    if len({_V1[status] if v1 else status for status in found}) != len(set(words)):
        raise Invalid.field("status", "Unknown status.")
    return found


def is_cancelling(status: str, v1: bool) -> bool:
    """Whether the `status` of a PATCH says to cancel."""
    return status == (_V1["cancelled"] if v1 else "cancelled")


def count_by_word(counts: dict[Status, int], v1: bool) -> dict[str, int]:
    """Counts under the words of the answer, zeros too."""
    told: dict[str, int] = {}
    for status in STATUSES:
        word = _V1[status] if v1 else status
        told[word] = told.get(word, 0) + counts.get(status, 0)
    return told


def one_of(body: BaseModel, name: str) -> int | None:
    """The id that a body gives as `name` or as `name_id`. Raises Invalid when they differ."""
    first: int | None = getattr(body, name)
    second: int | None = getattr(body, f"{name}_id")
    if first is not None and second is not None and first != second:
        raise Invalid.field(f"{name}_id", f"This differs from {name}.")
    return first if first is not None else second


def check_required(body: ScheduleCreate) -> None:
    """Raises Invalid under each field that a POST or PUT lacks."""
    faults: dict[str, list[str]] = {}
    if one_of(body, "template") is None and not body.text and body.format == "sms":
        faults["text"] = ["Enter a text or choose a template."]
    if one_of(body, "contact") is None and body.phone is None:
        faults["contact"] = ["Choose a contact or enter a phone."]
    if faults:
        raise Invalid(fields=faults)


def names_either(body: BaseModel, name: str) -> bool:
    """Whether the body has `name` or `name_id` at all, null too."""
    return name in body.model_fields_set or f"{name}_id" in body.model_fields_set
