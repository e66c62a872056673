"""The contract of the bus: every event, its topic and its payload. Within `.v1` only optional fields are added.

An event has all that its consumers need. State events carry the version of their row: the highest wins, whatever
the order in which they arrive.
"""

from datetime import UTC, datetime
from typing import ClassVar, Literal
from uuid import UUID, uuid5

import uuid_utils.compat
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.context import request_id

_SCHEDULES = UUID("5b0c1d8e-8b1e-4c0d-9f0e-3f0f7e0d2a11")
_STOPS = UUID("0d5a0a52-5a53-4c3d-8a0c-2f1f1c9d7b36")

Format = Literal["sms", "mms"]
Category = Literal[
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
    """What all events have. `key` is the id of what the event is about: it orders the events of one thing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[str]
    public: ClassVar[bool] = False  # nobody here listens: it is for others

    event_id: UUID = Field(default_factory=uuid_utils.compat.uuid7)
    occurred_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    organisation_id: str
    request_id: str = Field(default_factory=request_id)

    def key(self) -> str:
        raise NotImplementedError


class ScheduleDue(Event):
    """Scheduling to delivery: send this, now. One per (schedule, run), however often it is published."""

    topic: ClassVar[str] = "scheduling.schedule-due.v1"

    schedule_id: int
    run: int
    group_schedule_id: int | None = None
    contact_id: int | None = None
    phone: str
    text: str
    format: Format
    subject: str | None = None
    media_url: str | None = None
    parts: int = Field(description="units of the limit: parts of an SMS, 1 for an MMS")
    scheduled_time: AwareDatetime
    lane: Literal["single", "bulk"]
    hold: UUID | None = Field(None, description="the hold at delivery from which the units are taken")

    @staticmethod
    def id_of(schedule_id: int, run: int) -> UUID:
        """The event's id follows from what it is about, so a repetition is recognised."""
        return uuid5(_SCHEDULES, f"{schedule_id}:{run}")

    def key(self) -> str:
        return str(self.schedule_id)


class MessageState(Event):
    """Delivery's whole word on a message. A consumer takes the highest (run, version)."""

    message_id: int
    schedule_id: int
    group_schedule_id: int | None = None
    run: int
    version: int
    attempts: int
    provider: str | None = None
    provider_message_id: str | None = None

    def key(self) -> str:
        return str(self.schedule_id)


class MessageSent(MessageState):
    """A provider took the message."""

    topic: ClassVar[str] = "delivery.message-sent.v1"

    sent_time: AwareDatetime


class MessageFailed(MessageState):
    """The message will not go out in this run."""

    topic: ClassVar[str] = "delivery.message-failed.v1"

    category: Category
    error: str


class MessageDelayed(MessageState):
    """The message was not taken and is tried again, not before `next_attempt_at`."""

    topic: ClassVar[str] = "delivery.message-delayed.v1"

    next_attempt_at: AwareDatetime
    category: Category
    error: str


class MessageDelivered(MessageState):
    """A handset has the message."""

    topic: ClassVar[str] = "delivery.message-delivered.v1"

    sent_time: AwareDatetime | None = None
    delivered_time: AwareDatetime


class MessageReceived(Event):
    """Somebody wrote to one of the organisation's numbers. Public: for whoever wants to listen."""

    topic: ClassVar[str] = "delivery.message-received.v1"
    public: ClassVar[bool] = True

    message_id: int
    phone: str
    to: str
    text: str
    received_at: AwareDatetime
    contact_id: int | None = None
    schedule_id: int | None = Field(None, description="the schedule that it answers, where that is known")
    keyword: Literal["stop", "start", "help"] | None = None
    media_urls: tuple[str, ...] = ()

    def key(self) -> str:
        return str(self.message_id)


class StopChanged(Event):
    """A number stopped, or may be written to again: STOP, START, a provider's own refusal, a confirmed consent.

    The one with the highest version counts. `message_id`: the inbound message that said so.
    """

    topic: ClassVar[str] = "delivery.stop-changed.v1"

    phone: str
    stopped: bool
    changed_at: AwareDatetime
    source: Literal["reply", "provider", "confirmed"]
    message_id: int | None = None
    version: int

    def key(self) -> str:
        return str(uuid5(_STOPS, f"{self.organisation_id}:{self.phone}"))  # a phone has no place in a key


class ContactState(BaseModel):
    """A contact as others need it: where messages go, what fills the placeholders, whether it may be written to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    contact_id: int
    version: int
    phone: str
    first_name: str = ""
    last_name: str = ""
    company: str = ""
    is_active: bool
    opt_out: bool
    opt_out_source: str | None = None
    opted_out_at: AwareDatetime | None = None
    opt_in_confirmed_at: AwareDatetime | None = Field(
        None, description="when somebody confirmed that a number that had stopped may be written to again"
    )


class ContactChanged(Event):
    """Contacts that changed, or were born opted out; at most `MAX_CONTACTS` in one event."""

    topic: ClassVar[str] = "contacts.contact-changed.v1"
    MAX_CONTACTS: ClassVar[int] = 200

    contacts: tuple[ContactState, ...]

    def key(self) -> str:
        return str(self.contacts[0].contact_id)


class OrganisationChanged(Event):
    """An organisation was closed, or is open again."""

    topic: ClassVar[str] = "contacts.organisation-changed.v1"

    closed: bool
    version: int

    def key(self) -> str:
        return self.organisation_id


class SettingsChanged(Event):
    """Settings of an organisation that scheduling follows: its time zone."""

    topic: ClassVar[str] = "delivery.settings-changed.v1"

    timezone: str
    version: int

    def key(self) -> str:
        return self.organisation_id


EVENTS: tuple[type[Event], ...] = (
    ScheduleDue,
    MessageSent,
    MessageFailed,
    MessageDelayed,
    MessageDelivered,
    MessageReceived,
    StopChanged,
    ContactChanged,
    OrganisationChanged,
    SettingsChanged,
)
TOPICS: dict[str, type[Event]] = {event.topic: event for event in EVENTS}
