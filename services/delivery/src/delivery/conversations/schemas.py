"""Messages of both directions as they are shown, and the filters of their list."""

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from common.errors import Invalid
from common.fields import Time
from common.phones import InvalidPhone, normalise_phone, show_phone
from delivery.settings import split_names

Direction = Literal["outbound", "inbound"]
Status = Literal["processing", "sent", "delivered", "failed", "received"]

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The word → what the column of outbound messages may say.
STATES: dict[str, tuple[str, ...]] = {
    "processing": ("queued", "sending", "retry_wait", "unknown"),
    "sent": ("sent",),
    "delivered": ("delivered",),
    "failed": ("failed",),
}
_WORDS: dict[str, Status] = {state: word for word, states in STATES.items() for state in states}  # type: ignore[misc]


class MessageOut(BaseModel):
    """A message to or from a phone. `time`: when it was taken over to be sent, or received; `schedule`: the schedule
    that it was sent for, or, inbound, the one that it answers; `contact`: whose it is, where that is known."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 812,
                "direction": "inbound",
                "text": "See you then!",
                "phone": "0491570156",
                "time": "2026-04-04T06:31:12.000Z",
                "status": "received",
                "schedule": 17,
                "contact": 5,
            }
        }
    )

    id: int
    direction: Direction
    text: str
    phone: str
    time: Time
    status: Status
    schedule: int | None
    contact: int | None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which messages are wanted; None or empty: all. `statuses` are words of the list, `phone` is E.164.

    `contact`: those of this contact, and those of the phone that it has now.
    """

    phone: str | None = None
    statuses: frozenset[str] = field(default_factory=frozenset)
    direction: Direction | None = None
    first: date | None = None
    last: date | None = None
    contact: int | None = None


def show(row: Any) -> MessageOut:
    """A row of the list."""
    return MessageOut(
        id=row.id,
        direction=row.direction,
        text=row.text,
        phone=show_phone(row.phone),
        time=row.time,
        status="received" if row.direction == "inbound" else _WORDS[row.status],
        schedule=row.schedule_id,
        contact=row.contact_id,
    )


def read_phone(given: str | None) -> str | None:
    """Raises Invalid under `phone`."""
    try:
        return normalise_phone(given) if given else None
    except InvalidPhone as error:
        raise Invalid.field("phone", str(error)) from None


def read_statuses(given: str | None) -> frozenset[str]:
    """The words of a list by commas. Raises Invalid under `status`."""
    words = frozenset(split_names(given or ""))
    if not words <= set(get_args(Status)):
        raise Invalid.field("status", f"Enter some of {', '.join(get_args(Status))}.")
    return words


def read_direction(given: str | None) -> Direction | None:
    """Raises Invalid under `direction`."""
    if given in ("outbound", "inbound"):
        return given  # type: ignore[return-value]
    if given:
        raise Invalid.field("direction", "Enter outbound or inbound.")
    return None


def read_day(name: str, given: str | None) -> date | None:
    """A day. Raises Invalid under its name."""
    if not given:
        return None
    try:
        if _DAY.fullmatch(given):
            day = date.fromisoformat(given)
            if 1 < day.year < 9999:  # with room for the next day, and for other zones
                return day
    except ValueError:
        pass
    raise Invalid.field(name, "Enter a date as YYYY-MM-DD.")
