"""The list of messages and its filters, and the bodies of the internal route of states."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from common.errors import Invalid
from common.events import FailureCategory, Format
from common.fields import Time, one_name, some_names
from common.phones import InvalidPhone, normalise_phone

Direction = Literal["outbound", "inbound"]
PublicStatus = Literal["processing", "sent", "delivered", "failed", "received"]
if TYPE_CHECKING:
    Statuses = list[str] | None
    DirectionName = str | None
else:
    Statuses = some_names(*get_args(PublicStatus))
    DirectionName = one_name(*get_args(Direction))

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class MessageOut(BaseModel):
    """A message to or from a phone.

    `time` is when an outbound message was accepted for sending, or when an inbound message was received. `schedule` is
    the schedule of an outbound message, or the schedule that an inbound message answers. `contact` is the contact of
    the phone, if it is known. An inbound message with a picture has the format `mms`; its text may be empty.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 812,
                "direction": "outbound",
                "text": "Look",
                "phone": "0491570157",
                "time": "2026-04-04T06:31:12.000Z",
                "status": "failed",
                "schedule": 17,
                "contact": 5,
                "format": "mms",
                "subject": "Cat",
                "media_urls": ["https://example.com/cat.png"],
                "parts": 1,
                "provider": "messagemedia",
                "failure_category": "invalid_number",
                "error": "Invalid phone number.",
            }
        }
    )

    id: int
    direction: Direction
    text: str
    phone: str
    time: Time
    status: PublicStatus
    schedule: int | None
    contact: int | None
    format: Format
    subject: str | None = Field(description="subject of an MMS that was sent")
    media_urls: Sequence[str] = Field(description="addresses of its pictures, as the sender or the provider gave them")
    parts: int = Field(description="parts of the SMS; an MMS has 1")
    provider: str | None = Field(description="provider that has the message, or from which it came")
    failure_category: FailureCategory | None
    error: str | None = Field(description="why the message failed, or is delayed")


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of the list of messages. None, or an empty set, does not filter.

    `statuses` are those of the API. `phone` is E.164. `contact` selects the messages of a contact, together with those
    of `phone`, which is the contact's phone.
    """

    phone: str | None = None
    statuses: frozenset[str] = field(default_factory=frozenset)
    direction: Direction | None = None
    first: date | None = None
    last: date | None = None
    contact: int | None = None

    @property
    def is_counted(self) -> bool:
        """Whether counters have the number of the messages: nothing filters but direction and statuses."""
        return self.phone is None and self.contact is None


def read_phone(given: str | None) -> str | None:
    """Return a phone as E.164. Raises Invalid under `phone`."""
    try:
        return normalise_phone(given) if given else None
    except InvalidPhone as error:
        raise Invalid.field("phone", str(error)) from None


def read_statuses(names: frozenset[str]) -> frozenset[str]:
    """Return the statuses of these names. Raises Invalid under `status`."""
    if not names <= set(get_args(PublicStatus)):
        raise Invalid.field("status", f"Enter some of {', '.join(get_args(PublicStatus))}.")
    return names


def read_direction(given: str | None) -> Direction | None:
    """Return a direction. Raises Invalid under `direction`."""
    if given in ("outbound", "inbound"):
        return given  # type: ignore[return-value]
    if given:
        raise Invalid.field("direction", "Enter outbound or inbound.")
    return None


def read_day(name: str, given: str | None) -> date | None:
    """Return a day. Raises Invalid under the parameter's name."""
    if not given:
        return None
    try:
        if _DAY.fullmatch(given):
            day = date.fromisoformat(given)
            if 1 < day.year < 9999:  # the next day, and other time zones, must be dates too
                return day
    except ValueError:
        pass
    raise Invalid.field(name, "Enter a date as YYYY-MM-DD.")


class DispatchId(BaseModel):
    """One dispatch of a schedule."""

    schedule_id: int
    dispatch_number: int


class StatesIn(BaseModel):
    """The dispatches, at most 500, whose states are asked for."""

    schedules: list[DispatchId] = Field(max_length=500)


class DispatchState(DispatchId):
    """The state of a dispatch. `event` is there with an outcome: the message's event as it is on Kafka."""

    state: Literal["not_found", "open", "sent", "delivered", "failed"]
    event: dict[str, Any] | None = None


class StatesOut(BaseModel):
    """The states, in the order of the request. `intake_lag` counts the due schedules that were on Kafka before."""

    states: list[DispatchState]
    intake_lag: int
