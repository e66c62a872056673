"""The events on Kafka: each event with its topic and payload. Within `.v1` only optional fields are added.

An event has all that its consumers need. A state event has the version of its row; the highest version wins, in
whatever order events arrive.
"""

from datetime import UTC, datetime
from typing import ClassVar, Literal
from uuid import UUID, uuid5

import uuid_utils.compat
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from common import tracing
from common.context import request_id

_SCHEDULES = UUID("5b0c1d8e-8b1e-4c0d-9f0e-3f0f7e0d2a11")
_OPT_OUTS = UUID("0d5a0a52-5a53-4c3d-8a0c-2f1f1c9d7b36")

Format = Literal["sms", "mms"]
FailureCategory = Literal[
    "invalid_number",
    "opted_out",
    "blocked",
    "unroutable",
    "content_rejected",
    "account_error",
    "limit_exceeded",
    "expired",
    "rate_limited",
    "provider_unavailable",
    "outcome_unknown",
    "unknown",
]


class Event(BaseModel):
    """The fields of all events. `key` is the id of the event's subject, so events of one subject stay in order.

    The docstring of each `key` says whose id it is. The AsyncAPI document describes the key by it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[str]
    public: ClassVar[bool] = False  # no service here consumes it

    event_id: UUID = Field(default_factory=uuid_utils.compat.uuid7)
    occurred_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    organisation_id: str
    request_id: str = Field(default_factory=request_id)
    # The trace that the event continues. It is in the record's header and not in the payload, where consumers outside
    # would not look for it.
    traceparent: SkipJsonSchema[str | None] = Field(default_factory=tracing.current, exclude=True)

    def key(self) -> str:
        """Return the Kafka key."""
        raise NotImplementedError


class ScheduleDue(Event):
    """A schedule is due: delivery sends it now. One event per (schedule, dispatch number), however often published."""

    topic: ClassVar[str] = "scheduling.schedule-due.v1"

    schedule_id: int
    dispatch_number: int
    batch_id: int | None = None
    contact_id: int | None = None
    phone: str
    text: str
    format: Format
    subject: str | None = None
    media_url: str | None = None
    parts: int = Field(description="parts that count against the limit: those of an SMS, 1 for an MMS")
    scheduled_time: AwareDatetime
    lane: Literal["single", "bulk"]
    reservation: UUID | None = Field(None, description="reference of the reservation that has the parts")

    @staticmethod
    def id_of(schedule_id: int, dispatch_number: int) -> UUID:
        """Return the event id, which follows from the dispatch, so that a repeated event is recognised."""
        return uuid5(_SCHEDULES, f"{schedule_id}:{dispatch_number}")

    def key(self) -> str:
        """Return the schedule's id."""
        return str(self.schedule_id)


class MessageState(Event):
    """The whole state of a message at delivery. Consumers apply the highest (dispatch number, version)."""

    message_id: int
    schedule_id: int
    batch_id: int | None = None
    dispatch_number: int
    version: int
    attempts: int
    provider: str | None = None
    provider_message_id: str | None = None

    def key(self) -> str:
        """Return the schedule's id."""
        return str(self.schedule_id)


class MessageSent(MessageState):
    """A provider accepted the message."""

    topic: ClassVar[str] = "delivery.message-sent.v1"

    sent_time: AwareDatetime


class MessageFailed(MessageState):
    """The message failed: this dispatch sends nothing more."""

    topic: ClassVar[str] = "delivery.message-failed.v1"

    failure_category: FailureCategory
    error: str


class MessageDelayed(MessageState):
    """No provider accepted the message yet. It is retried, not before `next_attempt_at`."""

    topic: ClassVar[str] = "delivery.message-delayed.v1"

    next_attempt_at: AwareDatetime
    failure_category: FailureCategory
    error: str


class MessageDelivered(MessageState):
    """A handset has the message."""

    topic: ClassVar[str] = "delivery.message-delivered.v1"

    sent_time: AwareDatetime | None = None
    delivered_time: AwareDatetime


class MessageReceived(Event):
    """A phone sent a message to one of the organisation's sender IDs. Public: no service here consumes it."""

    topic: ClassVar[str] = "delivery.message-received.v1"
    public: ClassVar[bool] = True

    message_id: int
    phone: str
    to: str
    text: str
    received_at: AwareDatetime
    contact_id: int | None = None
    schedule_id: int | None = Field(None, description="the schedule that the message answers, if known")
    keyword: Literal["stop", "start", "help"] | None = None
    media_urls: tuple[str, ...] = ()

    def key(self) -> str:
        """Return the message's id."""
        return str(self.message_id)


class OptOutChanged(Event):
    """A number opted out or in: by STOP or START, by a provider's refusal, or by a confirmed opt-in.

    The highest version wins. `message_id` is the inbound message with the keyword, if there was one.
    """

    topic: ClassVar[str] = "delivery.opt-out-changed.v1"

    phone: str
    opted_out: bool
    changed_at: AwareDatetime
    source: Literal["reply", "provider", "confirmed"]
    message_id: int | None = None
    version: int

    def key(self) -> str:
        """Return a UUID made of organisation and number."""
        return str(uuid5(_OPT_OUTS, f"{self.organisation_id}:{self.phone}"))  # keys are logged, so they have no phone


# The placeholder fields: the values of a contact that a text may name, such as `{{first_name}}`. Contacts fills
# `ContactState.fields` by this list, and scheduling accepts the placeholders that it names.
PLACEHOLDERS = ("first_name", "last_name", "company")


class ContactState(BaseModel):
    """A contact as other services need it: its phone, its placeholder fields and whether it may be messaged.

    `fields` has the values of the placeholders by name. A name that is missing counts as empty.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    contact_id: int
    version: int
    phone: str
    fields: dict[str, str] = Field(default_factory=dict)
    is_active: bool
    opt_out: bool
    opt_out_source: str | None = None
    opted_out_at: AwareDatetime | None = None
    opt_in_confirmed_at: AwareDatetime | None = Field(
        None, description="when a person confirmed that an opted-out number may be messaged again"
    )


class ContactChanged(Event):
    """Contacts that changed, or that were created opted out; at most `MAX_CONTACTS` in one event."""

    topic: ClassVar[str] = "contacts.contact-changed.v1"
    MAX_CONTACTS: ClassVar[int] = 200

    contacts: tuple[ContactState, ...]

    def key(self) -> str:
        """Return the id of the first contact."""
        return str(self.contacts[0].contact_id)


class OrganisationChanged(Event):
    """An organisation was closed or opened again."""

    topic: ClassVar[str] = "contacts.organisation-changed.v1"

    closed: bool
    version: int

    def key(self) -> str:
        """Return the organisation's id."""
        return self.organisation_id


class SettingsChanged(Event):
    """Settings of an organisation that scheduling needs: its time zone."""

    topic: ClassVar[str] = "delivery.settings-changed.v1"

    timezone: str
    version: int

    def key(self) -> str:
        """Return the organisation's id."""
        return self.organisation_id


EVENTS: tuple[type[Event], ...] = (
    ScheduleDue,
    MessageSent,
    MessageFailed,
    MessageDelayed,
    MessageDelivered,
    MessageReceived,
    OptOutChanged,
    ContactChanged,
    OrganisationChanged,
    SettingsChanged,
)
TOPICS: dict[str, type[Event]] = {event.topic: event for event in EVENTS}
