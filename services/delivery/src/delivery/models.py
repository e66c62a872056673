"""Statuses and typed rows of delivery. Code, SQL statements and the migration use the same values."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, TypeVar, get_type_hints
from uuid import UUID

from common.events import FailureCategory, Format

RowT = TypeVar("RowT", bound=tuple[Any, ...])


class MessageStatus(StrEnum):
    """The states of an outbound message, in the order in which a message usually has them."""

    QUEUED = "queued"
    """A provider worker may claim the message."""
    SENDING = "sending"
    """An open submission has the message. Its request may be on the way."""
    RETRY_WAIT = "retry_wait"
    """No provider has the message. It is queued again at `next_attempt_at`."""
    UNKNOWN = "unknown"
    """The submission's outcome is not known. The provider may have the message."""
    SENT = "sent"
    """A provider accepted the message."""
    DELIVERED = "delivered"
    """A handset has the message."""
    FAILED = "failed"
    """The message was refused, expired, or its outcome stayed unknown. `failure_category` says which."""


WAITING = (MessageStatus.QUEUED, MessageStatus.RETRY_WAIT)
"""No provider has the message. It fails when its deadline passes."""
IN_SUBMISSION = (MessageStatus.SENDING, MessageStatus.UNKNOWN)
"""A submission has the message, and only its answer, a delivery receipt or the end of its time changes the status."""
OPEN = (*WAITING, *IN_SUBMISSION)
"""The message has no outcome. The API shows it as processing."""
FINAL = (MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.FAILED)
"""The message has an outcome, and scheduling knows it from an event. A delivery receipt may still change it."""
PUBLISHED = (MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.RETRY_WAIT)
"""A submission's result with this status is published, and gives the message a new version."""
COUNTS_AGAINST_LIMIT = (*OPEN, MessageStatus.SENT, MessageStatus.DELIVERED)
"""The message's parts are used of the limit.

A failed message counts too if a provider accepted it before (`sent_time`) or may have it (`outcome_unknown`).
"""


class SubmissionState(StrEnum):
    """The states of a submission. A submission whose messages all have an outcome is deleted."""

    OPEN = "open"
    """A request is on the way, until the lease ends at `due_at`."""
    UNKNOWN = "unknown"
    """No answer says what became of the messages. It is resent, or given up, at `due_at`."""


class PauseKind(StrEnum):
    """The kind of a pause."""

    # Nothing of the organisation is claimed.
    ORGANISATION = "organisation"
    # The provider's worker claims nothing and resends nothing.
    PROVIDER = "provider"


class Lane(StrEnum):
    """The two queues of messages. Single messages are claimed first."""

    SINGLE = "single"
    """A send to one recipient."""
    BULK = "bulk"
    """A message of a batch."""


def sql_list(values: Iterable[StrEnum]) -> str:
    """Return `'a', 'b'` for the IN clause of a statement."""
    return ", ".join(f"'{value.value}'" for value in values)


# The condition of the index messages_deadline. It is a CASE, so that only a statement which writes the same condition
# uses the index: the claim, which reads queued messages, must stay on messages_queued.
IS_WAITING = "CASE status " + " ".join(f"WHEN '{status}' THEN true" for status in WAITING) + " ELSE false END"


# A provider's id of a message as it is compared: in small letters, and without leading zeros, which some systems drop.
# The index messages_provider_message_id has the same expression.
PLAIN_ID = "lower(ltrim({id}, '0'))"


# Whether an organisation, or the provider `:provider`, is paused. These are scalar subqueries because PostgreSQL may
# plan EXISTS as a join, which does not keep the order of the rows. The one about the provider names no column of a row,
# so it is evaluated once, before any row is read.
ORGANISATION_PAUSED = """
    coalesce((SELECT true FROM pauses p WHERE p.kind = 'organisation' AND p.name = {organisation}), false)
"""
PROVIDER_PAUSED = "coalesce((SELECT true FROM pauses p WHERE p.kind = 'provider' AND p.name = :provider), false)"


# The names of the events that wake loops of the worker, and the conditions under which a loop has work.
QUEUED, RETRIES, EXPIRED, SUBMISSIONS, WEBHOOK_EVENTS = "queued", "retries", "expired", "submissions", "webhook_events"
PAUSES = "pauses"
WORK = {
    QUEUED: "EXISTS (SELECT FROM messages WHERE status = 'queued')",
    RETRIES: "EXISTS (SELECT FROM messages WHERE status = 'retry_wait' AND next_attempt_at <= now())",
    EXPIRED: f"EXISTS (SELECT FROM messages WHERE {IS_WAITING} AND deadline <= now())",
    SUBMISSIONS: "EXISTS (SELECT FROM submissions WHERE due_at <= now())",
    WEBHOOK_EVENTS: "EXISTS (SELECT FROM webhook_events WHERE due_at <= now())",
}


class OutcomeRow(NamedTuple):
    """The columns of a message from which its events are made and its parts returned."""

    id: int
    organisation_id: str
    schedule_id: int | None
    batch_id: int | None
    dispatch_number: int
    version: int
    status: MessageStatus
    attempts: int
    provider: str | None
    provider_message_id: str | None
    sent_time: datetime | None
    delivered_time: datetime | None
    next_attempt_at: datetime | None
    failure_category: FailureCategory | None
    error: str | None
    request_id: str
    traceparent: str | None
    phone: str
    parts: int
    period: date
    format: Format
    lane: Lane
    scheduled_time: datetime


class AddedMessage(NamedTuple):
    """A new message of a dispatch. `refusal` is the reason why it may not be sent."""

    id: int
    schedule_id: int
    dispatch_number: int
    refusal: FailureCategory | None


class ClaimedMessage(NamedTuple):
    """A queued message that a provider worker locked. `refusal` is the reason why it may not be sent."""

    id: int
    organisation_id: str
    phone: str
    text: str
    format: Format
    subject: str | None
    media_url: str | None
    parts: int
    lane: Lane
    attempts: int
    is_separate: bool
    deadline: datetime
    request_id: str
    traceparent: str | None
    is_expired: bool
    refusal: FailureCategory | None


class DueSubmission(NamedTuple):
    """A submission whose lease ended (open), or that is to be resent or given up (unknown).

    `is_paused` is whether the provider is paused.
    """

    key: UUID
    state: SubmissionState
    message_ids: Sequence[int]
    is_over: bool
    is_paused: bool


class LockedMessage(NamedTuple):
    """A message of a due submission. `is_refused`: its recipient opted out, so it must not be resent."""

    id: int
    status: MessageStatus
    submission_key: UUID | None
    is_refused: bool


class ResentSubmission(NamedTuple):
    """A submission that is sent again. `request_id` is "" when several requests caused its messages."""

    key: UUID
    tries: int
    body: bytes
    message_ids: Sequence[int]
    parts: int
    request_id: str
    traceparents: Sequence[str]


class ListedMessage(NamedTuple):
    """A message of either direction in the list of messages. An inbound message has no status and no parts."""

    id: int
    direction: str
    text: str
    phone: str
    time: datetime
    status: MessageStatus | None
    schedule_id: int | None
    contact_id: int | None
    format: Format
    subject: str | None
    media_urls: Sequence[str]
    parts: int | None
    provider: str | None
    failure_category: FailureCategory | None
    error: str | None


class ConfigRow(NamedTuple):
    """A config of an organisation."""

    id: int
    name: str
    value: str


class SenderIdRow(NamedTuple):
    """The organisation that a sender ID, in canonical form, is assigned to."""

    sender_id: str
    organisation_id: str
    created_at: datetime


class PauseRow(NamedTuple):
    """A pause of an organisation or a provider: since when, by whom, and why."""

    kind: PauseKind
    name: str
    since: datetime
    operator: str
    reason: str


class FoundMessage(NamedTuple):
    """A message of any organisation, as an operator finds it."""

    id: int
    organisation_id: str
    schedule_id: int | None
    created_at: datetime
    status: MessageStatus
    format: Format
    phone: str
    provider: str | None
    provider_message_id: str | None
    failure_category: FailureCategory | None


class MonthUsage(NamedTuple):
    """The parts that count against the limit of a month and a format, sent and reserved ones."""

    period: date
    format: Format
    usage: int


class UsageDrift(NamedTuple):
    """A month's recorded usage that differs from what messages and reservations add up to (`counted`)."""

    organisation_id: str
    period: date
    format: Format
    usage: int
    counted: int


def columns(row_class: type[RowT], alias: str = "") -> str:
    """Return the fields of a row class as the columns of a SELECT or RETURNING clause."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(f"{prefix}{name}" for name in row_class._fields)  # type: ignore[attr-defined]


def read_rows(row_class: type[RowT], rows: Iterable[Sequence[Any]]) -> list[RowT]:
    """Return database rows, whose columns are in the order of the class's fields, as rows of the class."""
    enums = _enums(row_class)
    make: Callable[..., RowT] = row_class
    if not enums:
        return [make(*row) for row in rows]
    typed = []
    for row in rows:
        values = list(row)
        for position, enum in enums:
            if values[position] is not None:
                values[position] = enum(values[position])
        typed.append(make(*values))
    return typed


@cache
def _enums(row_class: type[tuple[Any, ...]]) -> tuple[tuple[int, type[StrEnum]], ...]:
    """Return the position and the enum of the fields that are enums."""
    hints = get_type_hints(row_class)
    found = []
    for position, name in enumerate(row_class._fields):  # type: ignore[attr-defined]
        kinds = getattr(hints[name], "__args__", (hints[name],))
        found += [(position, kind) for kind in kinds if isinstance(kind, type) and issubclass(kind, StrEnum)]
    return tuple(found)
