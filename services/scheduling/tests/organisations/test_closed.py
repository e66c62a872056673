"""Closed organisations: what was pending is cancelled, and writes are refused."""

import pytest

from common.events import OrganisationChanged
from scheduling.schedules.consumers import on_organisation_changed
from services.scheduling.tests.stage import Stage, records, soon

BODY = {"phone": "0491000999", "text": "x"}
SEND = {"message": "x", "recipient": "0491000999"}


async def change(stage: Stage, closed: bool, version: int) -> None:
    event = OrganisationChanged(organisation_id=stage.organisation, closed=closed, version=version)
    await on_organisation_changed(stage.database, records(event))


async def test_the_newest_version_wins_in_any_order(stage: Stage) -> None:
    await change(stage, closed=True, version=2)
    await change(stage, closed=False, version=1)
    assert (await stage.client("POST", "/api/sms/send/", SEND)).status_code == 403
    await change(stage, closed=False, version=3)
    assert (await stage.client("POST", "/api/sms/send/", SEND)).status_code == 202


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/schedules/", BODY),
        ("/api/sms/send/", SEND),
        ("/api/sms/send-to-group/", {"message": "x", "group_id": 1}),
    ],
)
async def test_writes_of_a_closed_organisation_are_refused(stage: Stage, path: str, body: dict[str, object]) -> None:
    stage.make_group(1)
    await change(stage, closed=True, version=2)
    assert (await stage.client("POST", path, {"scheduled_time": soon(), **body})).status_code == 403
    assert (await stage.other("POST", "/api/sms/send/", SEND)).status_code == 202


async def test_pending_schedules_of_a_closed_organisation_are_cancelled(stage: Stage) -> None:
    await stage.make_batch(3)
    schedule = await stage.make_schedule()
    theirs = await stage.other.ok("POST", "/api/schedules/", {**BODY, "scheduled_time": soon()})
    await change(stage, closed=True, version=2)
    await stage.make_due()
    await stage.dispatch()
    assert {event.schedule_id for event in await stage.dispatches()} == {theirs["id"]}
    await change(stage, closed=False, version=3)
    assert (await stage.show(schedule["id"]))["status"] == "cancelled"
    assert (await stage.client.ok("GET", "/api/group-schedules/"))["pagination"]["total"] == 0
