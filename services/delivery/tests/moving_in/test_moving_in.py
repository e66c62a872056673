"""Parts that an earlier system sent count against the limits once, and its configs are checked as in the API."""

from datetime import date

from sqlalchemy import text

from common.database import Database
from delivery.limits.service import find_drift
from delivery.moving_in import service
from delivery.moving_in.schemas import ConfigIn

NOVEMBER = date(2026, 11, 1)


async def test_a_repeated_import_replaces_what_it_counted(database: Database) -> None:
    async with database.all_tenants() as session:
        await session.execute(
            text(
                "INSERT INTO limit_usage (organisation_id, period, format, usage) VALUES ('org_1', :period, 'sms', 0)"
            ),
            {"period": NOVEMBER},
        )
        for parts, changed in ((7, 1), (7, 0), (5, 1)):
            assert await service.set_usage(session, [("org_1", NOVEMBER, "sms", parts)]) == changed
        assert await session.scalar(text("SELECT usage FROM limit_usage")) == 5
        assert await find_drift(session, date(2026, 11, 29)) == []
        assert await service.set_usage(session, []) == 0


async def test_configs_are_replaced_when_they_changed_and_rejected_when_invalid(database: Database) -> None:
    rows = [
        ConfigIn(1, "org_1", "sms_limit", "100"),
        ConfigIn(2, "org_1", "sms_limit", "200"),
        ConfigIn(3, "org_1", "timezone", "ACST"),
        ConfigIn(4, "org_1", "sender", "Cooee"),
        ConfigIn(5, "org_2", "timezone", "Australia/Perth"),
    ]
    async with database.all_tenants() as session:
        first = await service.import_configs(session, "v2", rows)
        assert (first.added, sorted(old_id for old_id, _ in first.rejected)) == (2, [2, 3, 4])
        again = await service.import_configs(session, "v2", [rows[0]._replace(value="50"), rows[4]])
        assert (again.added, again.updated) == (0, 1)
        values = await session.execute(text("SELECT name, value FROM configs ORDER BY name"))
        assert [tuple(row) for row in values] == [("sms_limit", "50"), ("timezone", "Australia/Perth")]
        assert await service.get_zones(session, ["org_1", "org_2"]) == {
            "org_1": "Australia/Adelaide",
            "org_2": "Australia/Perth",
        }
        topics = await session.scalars(text("SELECT topic FROM outbox"))
        assert topics.all(), "scheduling gets the time zone by an event"


async def test_two_organisations_may_have_moved_in_with_the_same_old_ids(database: Database) -> None:
    first, other = ConfigIn(1, "org_1", "sms_limit", "1"), ConfigIn(1, "org_2", "sms_limit", "2")
    async with database.all_tenants() as session:
        written = [await service.import_configs(session, "v1", [row]) for row in (first, other, first, other)]
        assert [one.added for one in written] == [1, 1, 0, 0]
        values = await session.execute(text("SELECT organisation_id, value FROM configs ORDER BY 1"))
        assert [tuple(row) for row in values] == [("org_1", "1"), ("org_2", "2")]
        assert [row.rows for row in await service.check(session, "v1", ["org_2"])] == [1]
