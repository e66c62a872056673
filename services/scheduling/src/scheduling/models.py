"""The kinds and statuses of schedules, and the typed rows that services and rules work with."""

# ruff: noqa: S608 (the conditions are put together from constants of this file)
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row

from common.events import FailureCategory, Format


class ScheduleKind(StrEnum):
    """The meaning of a row of `schedules`."""

    SINGLE = "single"
    """One message to one recipient."""
    BATCH = "batch"
    """A group send, which the API calls a group schedule. It has a group and a text, and no recipient."""
    BATCH_MESSAGE = "batch_message"
    """The message of a batch to one member of the group."""


class ScheduleStatus(StrEnum):
    """The progress of a schedule.

        pending → processing → sent → delivered
           │           └─────→ failed → pending (a retry)
           └→ cancelled, failed

    A late delivery receipt may replace sent, delivered and failed by each other.
    """

    PENDING = "pending"
    """The schedule waits for its time, or is due and waits for its dispatch."""
    PROCESSING = "processing"
    """The message was dispatched, and its outcome is open. A batch: its time has come, and it is not finished."""
    SENT = "sent"
    """A provider accepted the message. A batch: at least one of its messages was sent."""
    DELIVERED = "delivered"
    """A handset has the message. A batch never gets this status."""
    FAILED = "failed"
    """The message was not sent; `failure_category` and `error` say why. A batch: none of its messages was sent."""
    CANCELLED = "cancelled"
    """The message will not be sent: a person cancelled it, its contact was deleted, or its organisation closed."""


# A schedule that may still be sent, or whose outcome is not known yet.
OPEN = (ScheduleStatus.PENDING, ScheduleStatus.PROCESSING)
# Delivery reported an outcome. A later receipt may replace it by another of these.
REPORTED = (ScheduleStatus.SENT, ScheduleStatus.DELIVERED, ScheduleStatus.FAILED)
# A provider accepted the message.
SUCCESSFUL = (ScheduleStatus.SENT, ScheduleStatus.DELIVERED)
# Nothing more happens without a retry or a late receipt.
FINAL = (*REPORTED, ScheduleStatus.CANCELLED)

# The name of an uploaded file in a schedule's `media_url`. The index on it has the same expression.
MEDIA_NAME = "substring(media_url from '[0-9a-f-]{36}[.][a-z]{3}')"


# The names of the events that wake loops of the worker (common.wakes).
DISPATCH, FAN_OUT, RETRIES = "dispatch", "fan_out", "retries"
FINISH, RELEASE, SWEEP = "finish", "release", "sweep"


def sql_list(values: Iterable[StrEnum]) -> str:
    """Return the values as SQL literals for `IN (…)`."""
    return ", ".join(f"'{value}'" for value in values)


# More than the time between two evaluations of the conditions, so that dispatch knows of a schedule before it is due.
_SOON = "now() + interval '2 seconds'"
# The conditions under which a loop has work, or has some soon, by the name of the event that wakes it.
WORK = {
    DISPATCH: f"""
        EXISTS (SELECT FROM schedules WHERE kind IN ('single', 'batch') AND status = 'pending'
                AND scheduled_time IS NOT NULL AND scheduled_time <= {_SOON})
        OR EXISTS (SELECT FROM schedules WHERE kind = 'batch' AND status IN ({sql_list(OPEN)})
                   AND next_due_at <= {_SOON})""",
    FAN_OUT: f"""
        EXISTS (SELECT FROM schedules WHERE kind = 'batch' AND fanned_out_at IS NULL AND status IN ({sql_list(OPEN)})
                AND (fan_out_lease_until IS NULL OR fan_out_lease_until <= now()))""",
    RETRIES: "EXISTS (SELECT FROM schedules WHERE retry_at IS NOT NULL)",
    FINISH: f"EXISTS (SELECT FROM schedules WHERE kind = 'batch' AND status IN ({sql_list(OPEN)})"
    f" AND next_due_at <= now())",
    RELEASE: f"EXISTS (SELECT FROM schedules WHERE reservation IS NOT NULL AND kind = 'batch'"
    f" AND status IN ({sql_list(FINAL)}))",
    SWEEP: "EXISTS (SELECT FROM schedules WHERE status = 'processing' AND kind <> 'batch' AND sweep_at <= now())",
}


class Dispatch(NamedTuple):
    """One dispatch of a schedule."""

    schedule_id: int
    dispatch_number: int


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a message. `text` is as written, with placeholders."""

    text: str
    format: Format
    media_url: str | None = None
    subject: str | None = None
    template_id: int | None = None
    template_version: int | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """The recipient of a message. `fields` are the contact's placeholder values by name; a phone alone has none.

    A schedule that has its own phone keeps it when the contact's phone changes.
    """

    phone: str
    contact_id: int | None = None
    contact_version: int = 0
    has_own_phone: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def placeholder_values(self) -> Mapping[str, str] | None:
        """The values of the placeholders, None without a contact."""
        return self.fields if self.contact_id is not None else None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row of the view `shown_schedules`: a single message, a batch, or a message of a batch.

    A message of a batch has here what it takes from its batch. `has_own_text` (with template, format, media and
    subject) and `has_own_time` say which of it is its own. `outcome_awaited`: the send that made it waited for the
    outcome (`Prefer: wait`). `content_removed`: its text and fields, or its batch's, were removed. Times are UTC,
    phones E.164.
    """

    id: int
    organisation_id: str
    kind: ScheduleKind
    status: ScheduleStatus
    batch_id: int | None
    group_id: int | None
    group_name: str | None
    contact_id: int | None
    contact_version: int
    has_own_phone: bool
    phone: str | None
    fields: Mapping[str, str]
    name: str | None
    template_id: int | None
    template_version: int | None
    text: str
    scheduled_time: datetime
    format: Format
    media_url: str | None
    subject: str | None
    dispatch_number: int
    attempts: int
    error: str | None
    failure_category: FailureCategory | None
    provider: str | None
    sent_time: datetime | None
    delivered_time: datetime | None
    next_attempt_at: datetime | None
    reservation: UUID | None
    sweep_count: int
    fanned_out_at: datetime | None
    message_count: int | None
    has_own_text: bool
    has_own_time: bool
    outcome_awaited: bool
    content_removed: bool
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime
    request_id: str

    @classmethod
    def of(cls, row: Row[Any]) -> "Schedule":
        """Return the schedule of a row of the view."""
        return cls(**{**row._mapping, "kind": ScheduleKind(row.kind), "status": ScheduleStatus(row.status)})

    def columns(self) -> dict[str, Any]:
        """Return the values by column."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def content(self) -> Content:
        """The current content."""
        return Content(
            text=self.text,
            format=self.format,
            media_url=self.media_url,
            subject=self.subject,
            template_id=self.template_id,
            template_version=self.template_version,
        )

    @property
    def address(self) -> Address:
        """The current address. A batch has none."""
        assert self.phone is not None
        return Address(
            phone=self.phone,
            contact_id=self.contact_id,
            contact_version=self.contact_version,
            has_own_phone=self.has_own_phone,
            fields=self.fields,
        )


@dataclass(frozen=True, slots=True)
class Template:
    """A row of `templates`: its newest version."""

    id: int
    name: str
    text: str
    is_active: bool
    version: int
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime
