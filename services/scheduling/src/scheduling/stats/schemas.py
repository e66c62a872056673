"""The answer of the statistics."""

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import BaseModel, Field

from scheduling.clients.delivery import Limits
from scheduling.stats.rules import MonthlyCounts


class MonthlyStats(BaseModel):
    """A month in the organisation's time zone. A message belongs to the month of its scheduled time."""

    month: str = Field(examples=["2026-03"])
    sms_sent: int
    sms_parts: int
    mms_sent: int
    pending: int
    failed: int


class Stats(BaseModel):
    """The last 12 months, the newest first, and the monthly limits (null is no limit)."""

    monthly_stats: list[MonthlyStats]
    sms_limit: int | None
    mms_limit: int | None


def render_stats(months: Sequence[MonthlyCounts], limits: Limits) -> Stats:
    """Return the answer of the statistics."""
    return Stats(
        monthly_stats=[MonthlyStats(**asdict(month)) for month in months],
        sms_limit=limits.sms_limit,
        mms_limit=limits.mms_limit,
    )
