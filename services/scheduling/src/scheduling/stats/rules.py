"""Months of a calendar."""

from datetime import date

MONTHS = 12


def last_months(today: date) -> list[date]:
    """The first days of the last 12 months, the newest first."""
    months = [today.replace(day=1)]
    while len(months) < MONTHS:
        newest = months[-1]
        months.append(date(newest.year - (newest.month == 1), (newest.month - 2) % 12 + 1, 1))
    return months


def next_month(first: date) -> date:
    """The first day of the month after."""
    return date(first.year + (first.month == 12), first.month % 12 + 1, 1)
