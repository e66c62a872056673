"""Bodies of the internal routes of limits and reservations."""

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

MAX_RESERVATIONS = 100


class ReservationIn(BaseModel):
    """The parts that a send needs: those of an SMS, 1 for each MMS.

    `phone` (E.164) and `contact_id` are its recipient. A group has neither.
    """

    reference: UUID
    format: Literal["sms", "mms"]
    parts: int = Field(ge=0, le=2**40)
    scheduled_time: AwareDatetime
    phone: str | None = None
    contact_id: int | None = None


class ReservationsIn(BaseModel):
    """Reservations for sends of one organisation that arrived together."""

    reservations: list[ReservationIn] = Field(min_length=1, max_length=MAX_RESERVATIONS)


class ReservationOut(BaseModel):
    """Whether the parts are reserved, and what then remains of the limit. `remaining` is null without a limit.

    `code` says why they are not. `limit` is the limit that `remaining` is too little of.
    """

    code: Literal["opted_out", "limit_exceeded"] | None = None
    remaining: int | None = None
    limit: int | None = None


class ReservationsOut(BaseModel):
    """The answers to the reservations, in their order."""

    reservations: list[ReservationOut]


class LimitsOut(BaseModel):
    """An organisation's monthly limits (null without one) and its time zone."""

    sms_limit: int | None
    mms_limit: int | None
    timezone: str
