"""Bodies and queries of schedules, and how the API shows a schedule."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, WithJsonSchema

from common.errors import Invalid
from common.events import FailureCategory, Format
from common.fields import (
    Audit,
    Id,
    RequestBody,
    Time,
    bounded_text,
    is_blank,
    names_schema,
    one_name,
    show_time,
    some_names,
)
from common.paging import Page, Paginated, Pagination
from common.phones import normalise_phone, show_phone
from scheduling.models import Schedule, ScheduleKind, ScheduleStatus
from scheduling.schedules.media_urls import MAX_LENGTH, read_media_url
from scheduling.templates.rules import fill
from scheduling.templates.schemas import ShownText
from scheduling.texts.rules import count_parts

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _check_is_text(given: Any) -> Any:
    if not isinstance(given, datetime) and not (isinstance(given, str) and _DAY.match(given)):
        raise ValueError("Enter a date and time in ISO 8601.")
    return given


WallTime = Annotated[datetime, BeforeValidator(_check_is_text)]
Phone = Annotated[str, AfterValidator(normalise_phone)]
if TYPE_CHECKING:
    Name = str
    Url = str
    Subject = str
else:
    Name = bounded_text(200)
    Url = Annotated[bounded_text(MAX_LENGTH), AfterValidator(read_media_url)]
    Subject = bounded_text(64)


class ScheduleStatusV1(StrEnum):
    """The names of the statuses in v1, with `?status_format=v1`."""

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    DELETED = "DELETED"


_V1 = {
    ScheduleStatus.PENDING: ScheduleStatusV1.PENDING,
    ScheduleStatus.PROCESSING: ScheduleStatusV1.PENDING,
    ScheduleStatus.SENT: ScheduleStatusV1.SENT,
    ScheduleStatus.DELIVERED: ScheduleStatusV1.SENT,
    ScheduleStatus.FAILED: ScheduleStatusV1.FAILED,
    ScheduleStatus.CANCELLED: ScheduleStatusV1.DELETED,
}
STATUS_NAMES = (*ScheduleStatus, *ScheduleStatusV1)
if TYPE_CHECKING:
    StatusFormat = str | None
    Statuses = list[str] | None
else:
    StatusFormat = one_name("v1", "v2")
    Statuses = some_names(*STATUS_NAMES)


class ContentFields(RequestBody):
    """The content of a message. A body may name its template by `template` or by `template_id`."""

    template: Id | None = None
    template_id: Annotated[Id | None, Field(description="another name of `template`")] = None
    text: ShownText = ""
    format: Annotated[Format, Field(description="`sms` in a POST that leaves it out")] = "sms"
    media_url: Url | None = None
    subject: Subject | None = None


class ContentUpdate(ContentFields):
    """Changes of a message's content and time. Omitted fields stay. `template` wins over `text`."""

    scheduled_time: Annotated[WallTime | None, Field(description="without an offset: the organisation's time zone")] = (
        None
    )
    status: Annotated[
        str,
        WithJsonSchema(names_schema(*STATUS_NAMES)),
        Field(description="`cancelled` in a PATCH cancels (v1: `DELETED`); any other value is ignored"),
    ] = ""

    def changes_nothing(self) -> bool:
        """Return whether the body has no field that can change: a PATCH without a body, or with `{}`."""
        return self.model_fields_set <= {"status"}


class ScheduleUpdate(ContentUpdate):
    """Changes of a schedule. Omitted fields stay. `template` wins over `text`, `contact` over `phone`."""

    name: Name | None = None
    group: Annotated[Id | None, Field(description="a note: the message goes to its one recipient")] = None
    group_id: Annotated[Id | None, Field(description="another name of `group`")] = None
    contact: Id | None = None
    contact_id: Annotated[Id | None, Field(description="another name of `contact`")] = None
    phone: Phone | None = None


class ScheduleCreate(ScheduleUpdate):
    """A new schedule, or all of one (PUT).

    It has a text or a template, a contact or a phone, and a time within the next 366 days.
    """

    scheduled_time: WallTime


class ScheduleFields(BaseModel):
    """The fields of a schedule before its audit fields."""

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
    status: ScheduleStatus | ScheduleStatusV1
    error: str | None
    failure_category: FailureCategory | None
    attempts: int
    next_attempt_at: Time | None
    provider: str | None
    format: Format
    media_url: str | None
    subject: str | None


class ScheduleOut(Audit, ScheduleFields):
    """One message to one recipient.

    `text`, `message_parts`, `phone` and `recipient_name` are as the message will be, or was, sent.
    """


class MediaNames(BaseModel):
    """Files that delivery wants to delete, 500 at most."""

    names: list[str] = Field(max_length=500)
    since: AwareDatetime


class UsedMedia(BaseModel):
    """Those of the files that are still needed."""

    used: list[str]


@dataclass(frozen=True, slots=True)
class Days:
    """The days that a list is asked for, as the query has them."""

    tz: str | None = None
    date: str | None = None
    date_from: str | None = None
    date_to: str | None = None


def render_schedule(row: Schedule, v1: bool) -> ScheduleOut:
    """Return the answer of a schedule, with `v1` in the older status names."""
    return ScheduleOut(**render_fields(row.columns(), v1))


def render_schedules(rows: Sequence[Schedule], total: int, page: Page, v1: bool) -> Paginated[ScheduleOut]:
    """Return the answer of a page of schedules."""
    return Paginated(results=[render_schedule(row, v1) for row in rows], pagination=Pagination.of(page, total))


def render_fields(row: Mapping[str, Any], v1: bool) -> dict[str, Any]:
    """Return the fields of ScheduleOut from a row of `shown_schedules` with `SHOWN_COLUMNS`.

    A batch shows its text as written, and its parts as with empty placeholder values.
    """
    fields = read_fields(row["fields"])
    filled = fill(row["text"], fields)
    recipient_name = f"{fields.get('first_name', '')} {fields.get('last_name', '')}".strip()
    return {
        "id": row["id"],
        "name": row["name"],
        "template": row["template_id"],
        "template_version": row["template_version"],
        "text": row["text"] if row["kind"] == ScheduleKind.BATCH else filled,
        "message_parts": count_parts(row["format"], filled),
        "contact": row["contact_id"],
        "recipient_name": recipient_name or None,
        "phone": show_phone(row["phone"]) if row["phone"] else None,
        "group": row["group_id"],
        "parent": row["batch_id"],
        "group_schedule_id": row["batch_id"],
        "scheduled_time": show_time(row["scheduled_time"]),
        "sent_time": row["sent_time"] and show_time(row["sent_time"]),
        "delivered_time": row["delivered_time"] and show_time(row["delivered_time"]),
        "status": str(_V1[row["status"]] if v1 else row["status"]),
        "error": row["error"],
        "failure_category": row["failure_category"],
        "attempts": row["attempts"],
        "next_attempt_at": row["next_attempt_at"] and show_time(row["next_attempt_at"]),
        "provider": row["provider"],
        "format": row["format"],
        "media_url": row["media_url"],
        "subject": row["subject"],
        "created_by": row["created_by"],
        "updated_by": row["updated_by"],
        "created_at": show_time(row["created_at"]),
        "updated_at": show_time(row["updated_at"]),
    }


def read_fields(stored: Any) -> Mapping[str, str]:
    """Return placeholder values from a jsonb column, which asyncpg returns as text and SQLAlchemy as a dict."""
    if not isinstance(stored, str):
        found: Mapping[str, str] = stored
        return found
    return {} if stored == "{}" else orjson.loads(stored)


def render_status(status: ScheduleStatus, v1: bool) -> str:
    """Return the name of a status in the API."""
    return (_V1[status] if v1 else status).value


def render_counts(counts: Mapping[ScheduleStatus, int], v1: bool) -> dict[str, int]:
    """Return counts by the API's status names, with zeros."""
    shown: dict[str, int] = {}
    for status in ScheduleStatus:
        name = render_status(status, v1)
        shown[name] = shown.get(name, 0) + counts.get(status, 0)
    return shown


def read_date(name: str, given: str | None) -> date | None:
    """Return a day of the query, None when absent. Raises Invalid under its name."""
    if not given:
        return None
    try:
        if _DAY.fullmatch(given):
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise Invalid.field(name, "Enter a date as YYYY-MM-DD.")


def read_format(given: str | None) -> bool:
    """Return whether `?status_format=` asks for the status names of v1. Raises Invalid under its name."""
    if given not in (None, "", "v1", "v2"):
        raise Invalid.field("status_format", "Enter v1, or leave it out.")
    return given == "v1"


def read_statuses(names: Collection[str], v1: bool) -> list[ScheduleStatus]:
    """Return the statuses of these names, without any all but cancelled. Raises Invalid under `status`."""
    if not names:
        return [status for status in ScheduleStatus if status != ScheduleStatus.CANCELLED]
    found = [status for status in ScheduleStatus if render_status(status, v1) in names]
    if {render_status(status, v1) for status in found} != set(names):
        raise Invalid.field("status", "Unknown status.")
    return found


def is_cancelling(status: str, v1: bool) -> bool:
    """Return whether the `status` of a PATCH cancels."""
    return status == render_status(ScheduleStatus.CANCELLED, v1)


def one_of(body: BaseModel, name: str) -> int | None:
    """Return the id that a body gives as `name` or as `name_id`. Raises Invalid when they differ."""
    first: int | None = getattr(body, name)
    second: int | None = getattr(body, f"{name}_id")
    if first is not None and second is not None and first != second:
        raise Invalid.field(f"{name}_id", f"This differs from {name}.")
    return first if first is not None else second


def names_either(body: BaseModel, name: str) -> bool:
    """Return whether the body has `name` or `name_id` at all, also as null."""
    return name in body.model_fields_set or f"{name}_id" in body.model_fields_set


def _find_missing_content(body: ContentFields) -> dict[str, list[str]]:
    faults: dict[str, list[str]] = {}
    if one_of(body, "template") is None and is_blank(body.text) and body.format == "sms":
        faults["text"] = ["Enter a text or choose a template."]
    if body.format == "mms" and not body.media_url:
        faults["media_url"] = ["An MMS needs a media_url."]
    return faults


def check_content_given(body: ContentFields) -> None:
    """Raise Invalid under each field of the content that a POST or PUT lacks."""
    faults = _find_missing_content(body)
    if faults:
        raise Invalid(fields=faults)


def check_required(body: ScheduleCreate) -> None:
    """Raise Invalid under each field that a POST or PUT lacks."""
    faults = _find_missing_content(body)
    if one_of(body, "contact") is None and body.phone is None:
        faults["contact"] = ["Choose a contact or enter a phone."]
    if faults:
        raise Invalid(fields=faults)
