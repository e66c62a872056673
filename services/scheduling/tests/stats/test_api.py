from datetime import date

import pytest

from scheduling.stats.rules import last_months, next_month

STATS = "/api/stats/monthly/"


@pytest.mark.parametrize(
    ("today", "newest", "oldest"),
    [(date(2026, 3, 31), date(2026, 3, 1), date(2025, 4, 1)), (date(2026, 12, 1), date(2026, 12, 1), date(2026, 1, 1))],
)
def test_the_last_twelve_months(today, newest, oldest):
    months = last_months(today)
    assert (months[0], months[-1], len(months)) == (newest, oldest, 12)
    assert [next_month(month) for month in months[1:]] == months[:-1]


async def test_what_was_sent_by_month(client, other, delivery, make_schedule, make_batch, make_due, dispatch, run_sql):
    batch = await make_batch(5)
    for _ in range(4):
        await make_schedule(text="x" * 161)
    await make_schedule(format="mms", media_url="https://example.com/a.png")
    await make_due()
    await dispatch()
    first = [s["id"] for s in batch["schedules"]]
    await run_sql("UPDATE schedules SET status = 'delivered' WHERE kind = 'single'")
    await run_sql("UPDATE schedules SET status = 'sent' WHERE id = ANY(:ids)", ids=first[:2])
    await run_sql(
        "UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'x' WHERE id = :id", id=first[2]
    )
    later = await make_batch(2)
    await run_sql("UPDATE schedules SET scheduled_time = now() - interval '100 days' WHERE id = :id", id=first[0])
    await make_due(later["id"])
    delivery.limits["sms_limit"] = 500
    stats = await client.ok("GET", STATS)
    assert (stats["sms_limit"], stats["mms_limit"], len(stats["monthly_stats"])) == (500, None, 12)
    newest = stats["monthly_stats"][0]
    assert newest == {
        "month": newest["month"], "sms_sent": 5, "sms_parts": 9, "mms_sent": 1, "pending": 4, "failed": 1,
    }  # fmt: skip
    assert sum(month["sms_sent"] for month in stats["monthly_stats"]) == 6
    assert all(not month["sms_sent"] for month in (await other.ok("GET", STATS))["monthly_stats"])
