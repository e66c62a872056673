"""Settings and closings, as the bus brings them."""

from types import SimpleNamespace

import pytest

from common.events import SettingsChanged
from scheduling.organisations.consumers import on_settings_changed


def record(value, offset=0):
    return SimpleNamespace(topic="t", partition=0, offset=offset, key=b"k", value=value)


async def test_the_newest_zone_wins_and_a_broken_record_is_put_aside(
    client, other, database, organisation, run_sql, soon
):
    def told(timezone, version):
        event = SettingsChanged(organisation_id=organisation, timezone=timezone, version=version)
        return record(event.model_dump_json().encode())

    batch = [told("Asia/Tokyo", 1), record(b"{broken", 7), told("America/New_York", 3), told("Europe/London", 2)]
    for records in (batch, batch, batch[:1]):
        await on_settings_changed(database, records)
    assert len(await run_sql("SELECT * FROM dead_letters")) == 1
    body = {"phone": "0491000999", "text": "x", "scheduled_time": "2026-12-24T09:00:00"}
    assert (await client.ok("POST", "/api/schedules/", body))["scheduled_time"] == "2026-12-24T14:00:00.000Z"
    assert (await other.ok("POST", "/api/schedules/", body))["scheduled_time"] == "2026-12-23T22:30:00.000Z"


@pytest.mark.parametrize("day", ["2026-12-24", "2026-12-23"])
async def test_days_follow_the_zone_of_the_query(client, day):
    body = {"phone": "0491000999", "text": "x", "scheduled_time": "2026-12-23T20:00:00Z"}
    made = await client.ok("POST", "/api/schedules/", body)
    for tz in ("Australia/Adelaide", "", "America/New_York"):
        page = await client.ok("GET", f"/api/schedules/?date={day}&tz={tz}")
        expected = (day == "2026-12-23") == (tz == "America/New_York")
        assert [s["id"] for s in page["results"]] == ([made["id"]] if expected else [])
