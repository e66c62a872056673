"""The time zone of an organisation, as SettingsChanged events set it and a query overrides it."""

import pytest
from aiokafka import ConsumerRecord

from common.events import SettingsChanged
from scheduling.organisations.consumers import on_settings_changed
from services.scheduling.tests.stage import Stage, record


async def test_the_newest_time_zone_wins_and_an_unreadable_record_becomes_a_dead_letter(stage: Stage) -> None:
    def changed(timezone: str, version: int) -> ConsumerRecord:
        event = SettingsChanged(organisation_id=stage.organisation, timezone=timezone, version=version)
        return record(event.model_dump_json().encode(), event.topic)

    broken = record(b"{broken", SettingsChanged.topic, offset=7)
    batch = [changed("Asia/Tokyo", 1), broken, changed("America/New_York", 3), changed("Europe/London", 2)]
    for records in (batch, batch, batch[:1]):
        await on_settings_changed(stage.database, records)
    assert len(await stage.rows("SELECT * FROM dead_letters")) == 1
    body = {"phone": "0491000999", "text": "x", "scheduled_time": "2026-12-24T09:00:00"}
    assert (await stage.client.ok("POST", "/api/schedules/", body))["scheduled_time"] == "2026-12-24T14:00:00.000Z"
    assert (await stage.other.ok("POST", "/api/schedules/", body))["scheduled_time"] == "2026-12-23T22:30:00.000Z"


async def test_an_unknown_time_zone_is_read_as_the_default(stage: Stage) -> None:
    event = SettingsChanged(organisation_id=stage.organisation, timezone="Mars/Olympus", version=1)
    await on_settings_changed(stage.database, [record(event.model_dump_json().encode(), event.topic)])
    made = await stage.make_schedule(scheduled_time="2026-12-24T09:00:00")
    assert made["scheduled_time"] == "2026-12-23T22:30:00.000Z"


@pytest.mark.parametrize("day", ["2026-12-24", "2026-12-23"])
async def test_days_follow_the_time_zone_of_the_query(stage: Stage, day: str) -> None:
    made = await stage.make_schedule(scheduled_time="2026-12-23T20:00:00Z")
    for tz in ("Australia/Adelaide", "", "America/New_York"):
        page = await stage.client.ok("GET", f"/api/schedules/?date={day}&tz={tz}")
        expected = (day == "2026-12-23") == (tz == "America/New_York")
        assert [s["id"] for s in page["results"]] == ([made["id"]] if expected else [])
