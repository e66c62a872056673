"""What the statistics say."""

from pydantic import BaseModel, Field


class MonthlyStats(BaseModel):
    """A month of the organisation's zone. A message belongs to the month of its time."""

    month: str = Field(examples=["2026-03"])
    sms_sent: int = 0
    sms_parts: int = 0
    mms_sent: int = 0
    pending: int = 0
    failed: int = 0


class Stats(BaseModel):
    """The last 12 months, the newest first, and the monthly limits (null: none)."""

    monthly_stats: list[MonthlyStats]
    sms_limit: int | None
    mms_limit: int | None
