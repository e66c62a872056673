"""Bodies of the internal routes of limits and reservations."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field


class ReservationIn(BaseModel):
    """The parts that a send needs: those of an SMS, 1 for each MMS.

    `phone` (E.164) and `contact_id` are its recipient. A group has neither.
    """

    format: Literal["sms", "mms"]
    parts: int = Field(ge=0, le=2**40)
    scheduled_time: AwareDatetime
    phone: str | None = None
    contact_id: int | None = None


class ReservationOut(BaseModel):
    """What remains of the limit after the reservation. It is null without a limit."""

    remaining: int | None


class LimitsOut(BaseModel):
    """An organisation's monthly limits (null without one) and its time zone."""

    sms_limit: int | None
    mms_limit: int | None
    timezone: str
