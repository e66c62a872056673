"""Convert the wall clock of a time zone to UTC, and days to instants."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from common.fields import place_zones


def find_zone(name: str) -> ZoneInfo | None:
    """Return the time zone of that name, or None."""
    return ZoneInfo(name) if name in place_zones() else None


def to_utc(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return a time in UTC. Without an offset it is the wall clock of the zone.

    A wall time that a change to daylight saving skips becomes the next one that exists. One that comes twice is the
    first. Raises OverflowError for a time outside of the calendar.
    """
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    first = moment.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == moment:
        return first
    # Inside the gap, the offset before it (fold 0) gives an instant after the gap, and the offset after it (fold 1)
    # gives an instant before the gap. The gap is where the zone's offset changes between these two.
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
    """Return the start of the day `first` and the end of the day `last` in the zone. The end is exclusive."""
    start = to_utc(datetime.combine(first, datetime.min.time()), zone) if first else None
    end = to_utc(datetime.combine(last + timedelta(days=1), datetime.min.time()), zone) if last else None
    return start, end


def today(zone: ZoneInfo, now: datetime) -> date:
    """Return the current day in the zone."""
    return now.astimezone(zone).date()
