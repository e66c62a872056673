"""Wall clocks: api.md, Times; domain.md, Time."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def find_zone(name: str) -> ZoneInfo | None:
    """The zone of that name, or None."""
    return ZoneInfo(name) if name in _zones() else None


def to_utc(moment: datetime, zone: ZoneInfo) -> datetime:
    """A time as it was written, in UTC; without an offset it is the zone's wall clock.

    A wall time that is skipped goes forward to the next that exists; one that comes twice is its first.
    Raises OverflowError for a time outside of the calendar.
    """
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    first = moment.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == moment:
        return first
    # Inside the gap the offset before it (fold 0) gives an instant after it, and the one after it (fold 1) an instant
    # before it: the gap itself lies where the zone's offset changes in between.
    low, high = moment.replace(tzinfo=zone, fold=1).astimezone(UTC), first
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def day_bounds(first: date | None, last: date | None, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """The instants from which and before which the days first to last (inclusive) lie."""
    start = to_utc(datetime.combine(first, datetime.min.time()), zone) if first else None
    end = to_utc(datetime.combine(last + timedelta(days=1), datetime.min.time()), zone) if last else None
    return start, end


def today(zone: ZoneInfo, now: datetime) -> date:
    """The day that it is in the zone."""
    return now.astimezone(zone).date()
