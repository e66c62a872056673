"""Wall clocks and days, in the nights when the clock changes."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from scheduling.organisations.rules import day_bounds, find_zone, to_utc

ADELAIDE = ZoneInfo("Australia/Adelaide")


@pytest.mark.parametrize(
    ("wall", "instant"),
    [
        ("2026-07-01T09:00:00", "2026-06-30T23:30:00"),
        ("2026-12-01T09:00:00", "2026-11-30T22:30:00"),
        # On 5 April 2026, 3:00 becomes 2:00. A time that comes twice is the first.
        ("2026-04-05T02:30:00", "2026-04-04T16:00:00"),
        ("2026-04-05T03:00:00", "2026-04-04T17:30:00"),
        # On 4 October 2026, 2:00 becomes 3:00. A time that is skipped becomes the next that exists.
        ("2026-10-04T01:59:59", "2026-10-03T16:29:59"),
        ("2026-10-04T02:00:00", "2026-10-03T16:30:00"),
        ("2026-10-04T02:30:00", "2026-10-03T16:30:00"),
        ("2026-10-04T02:59:59.999", "2026-10-03T16:30:00"),
        ("2026-10-04T03:00:00", "2026-10-03T16:30:00"),
        ("2026-10-04T02:30:00+09:30", "2026-10-03T17:00:00"),
    ],
)
def test_a_wall_time_becomes_utc_in_both_nights_of_the_year(wall: str, instant: str) -> None:
    assert to_utc(datetime.fromisoformat(wall), ADELAIDE) == datetime.fromisoformat(instant).replace(tzinfo=UTC)


def test_a_day_that_begins_in_a_gap_begins_after_it() -> None:
    # In Beirut, the clock goes forward at midnight: the day begins at 1:00.
    start, _ = day_bounds(date(2026, 3, 29), None, ZoneInfo("Asia/Beirut"))
    assert start == datetime(2026, 3, 28, 22, tzinfo=UTC)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 4, 5), 25), (date(2026, 10, 4), 23), (date(2026, 7, 1), 24)])
def test_a_day_has_23_24_or_25_hours(day: date, hours: int) -> None:
    start, end = day_bounds(day, day, ADELAIDE)
    assert start is not None
    assert end is not None
    assert (end - start).total_seconds() == hours * 3600


@pytest.mark.parametrize(
    "name",
    ["", "Mars/Olympus", "../etc/passwd", "australia/adelaide", "Australia", "\0"]
    + ["localtime", "Factory", "posixrules", "Etc/UTC", "posix/Australia/Adelaide", "utc"],
)
def test_an_unknown_time_zone_is_not_found(name: str) -> None:
    assert find_zone(name) is None
