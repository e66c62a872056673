"""`/api/stats/monthly/`."""

from datetime import date

import pytest

from scheduling.stats.rules import last_months, next_month
from services.scheduling.tests.stage import Stage

STATS = "/api/stats/monthly/"


@pytest.mark.parametrize(
    ("today", "newest", "oldest"),
    [(date(2026, 3, 31), date(2026, 3, 1), date(2025, 4, 1)), (date(2026, 12, 1), date(2026, 12, 1), date(2026, 1, 1))],
)
def test_the_last_twelve_months_are_in_order(today: date, newest: date, oldest: date) -> None:
    months = last_months(today)
    assert (months[0], months[-1], len(months)) == (newest, oldest, 12)
    assert [next_month(month) for month in months[1:]] == months[:-1]


async def test_messages_are_counted_by_month_and_status(stage: Stage) -> None:
    batch = await stage.make_batch(5)
    for _ in range(4):
        await stage.make_schedule(text="x" * 161)
    await stage.make_schedule(format="mms", media_url="https://example.com/a.png")
    await stage.make_due()
    await stage.dispatch()
    first, second, third, *_ = [message["id"] for message in batch["schedules"]]
    await stage.rows("UPDATE schedules SET status = 'delivered' WHERE kind = 'single'")
    await stage.rows("UPDATE schedules SET status = 'sent' WHERE id = ANY(:ids)", ids=[first, second])
    await stage.rows(
        "UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'x' WHERE id = :id", id=third
    )
    later = await stage.make_batch(2)
    await stage.rows("UPDATE schedules SET scheduled_time = now() - interval '100 days' WHERE id = :id", id=first)
    await stage.make_due(later["id"])
    stage.delivery.limits["sms_limit"] = 500
    stats = await stage.client.ok("GET", STATS)
    assert (stats["sms_limit"], stats["mms_limit"], len(stats["monthly_stats"])) == (500, None, 12)
    newest = stats["monthly_stats"][0]
    assert newest == {
        "month": newest["month"],
        "sms_sent": 5,
        "sms_parts": 9,
        "mms_sent": 1,
        "pending": 4,
        "failed": 1,
    }
    assert sum(month["sms_sent"] for month in stats["monthly_stats"]) == 6
    assert all(not month["sms_sent"] for month in (await stage.other.ok("GET", STATS))["monthly_stats"])
