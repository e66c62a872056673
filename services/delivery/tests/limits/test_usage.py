"""The usage of an organisation is listed month by month, without that of others."""

from datetime import date

from delivery.limits import service
from services.delivery.tests.stage import Stage


async def test_usage_of_the_last_months_is_listed(stage: Stage) -> None:
    months = [("2026-04-01", "sms", 5), ("2026-04-01", "mms", 1), ("2026-03-01", "sms", 7), ("2026-02-01", "sms", 9)]
    for period, message_format, usage in months:
        await stage.execute(f"INSERT INTO limit_usage VALUES ('org_1', '{period}', '{message_format}', {usage})")
    await stage.execute("INSERT INTO limit_usage VALUES ('org_2', '2026-04-01', 'sms', 100)")
    async with stage.database.tenant("org_1") as session:
        rows = await service.list_usage(session, 1)
    assert rows == [(date(2026, 4, 1), "mms", 1), (date(2026, 4, 1), "sms", 5)]
    async with stage.database.tenant("org_1") as session:
        assert [row.usage for row in await service.list_usage(session, 12)] == [1, 5, 7, 9]
