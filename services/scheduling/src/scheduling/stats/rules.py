"""Add up message counts by calendar month."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from common.events import Format
from scheduling.models import OPEN, ScheduleStatus

MONTHS = 12


@dataclass(frozen=True, slots=True)
class StatusCount:
    """The number of messages of a month (YYYY-MM) with one status and format, and the sum of their parts."""

    month: str
    status: ScheduleStatus
    format: Format
    messages: int
    parts: int


@dataclass(slots=True)
class MonthlyCounts:
    """The counts that the statistics show for a month (YYYY-MM)."""

    month: str
    sms_sent: int = 0
    sms_parts: int = 0
    mms_sent: int = 0
    pending: int = 0
    failed: int = 0

    def add(self, count: StatusCount) -> None:
        """Add a count to the number that it belongs to."""
        if count.status in OPEN:
            self.pending += count.messages
        elif count.status == ScheduleStatus.FAILED:
            self.failed += count.messages
        elif count.format == "mms":
            self.mms_sent += count.messages
        else:
            self.sms_sent += count.messages
            self.sms_parts += count.parts


def add_up(months: Sequence[date], counts: Iterable[StatusCount]) -> list[MonthlyCounts]:
    """Return the counts of each of the months, in their order."""
    totals = {name: MonthlyCounts(name) for name in (f"{month:%Y-%m}" for month in months)}
    for count in counts:
        if count.month in totals:
            totals[count.month].add(count)
    return list(totals.values())


def last_months(today: date) -> list[date]:
    """Return the first days of the last 12 months, the newest first."""
    months = [today.replace(day=1)]
    while len(months) < MONTHS:
        newest = months[-1]
        months.append(date(newest.year - (newest.month == 1), (newest.month - 2) % 12 + 1, 1))
    return months


def next_month(first: date) -> date:
    """Return the first day of the following month."""
    return date(first.year + (first.month == 12), first.month % 12 + 1, 1)
