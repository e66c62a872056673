"""The fan-out of a batch: its messages are written page by page after it was accepted."""

import pytest

from common.errors import Unavailable
from scheduling.batches.loops import fan_out_batches
from services.scheduling.tests.stage import Stage


async def test_a_batch_is_fanned_out_and_dispatched(stage: Stage) -> None:
    batch = await stage.make_batch(120)
    assert batch["child_count"] == 120
    assert len(batch["schedules"]) == 50
    assert (await stage.show_batch(batch["id"]))["counts"]["pending"] == 120
    await stage.fan_out()
    await stage.make_due()
    await stage.dispatch()
    events = await stage.dispatches()
    assert len(events) == len({event.schedule_id for event in events}) == 120
    assert {event.text for event in events} == {f"Hi First{n}" for n in range(1, 121)}
    assert {event.lane for event in events} == {"bulk"}
    assert {event.batch_id for event in events} == {batch["id"]}
    detail = await stage.show_batch(batch["id"], "?page=3")
    assert detail["status"] == "processing"
    assert detail["counts"] == {"pending": 0, "processing": 120, "sent": 0, "delivered": 0, "failed": 0, "cancelled": 0}
    assert len(detail["schedules"]) == 20


async def test_pages_count_all_messages_while_the_batch_is_expanding(stage: Stage) -> None:
    batch = await stage.make_batch(51)
    assert batch["expanding"] is True
    for query, shown in (("", 50), ("?page=2", 0)):
        detail = await stage.show_batch(batch["id"], query)
        assert (detail["expanding"], len(detail["schedules"])) == (True, shown)
        assert (detail["pagination"]["total"], detail["pagination"]["totalPages"]) == (51, 2)
        assert detail["pagination"]["hasNext"] == (query == "")
    assert (await stage.client.ok("GET", "/api/group-schedules/"))["results"][0]["expanding"] is True
    await stage.fan_out()
    detail = await stage.show_batch(batch["id"], "?page=2")
    assert (detail["expanding"], len(detail["schedules"]), detail["pagination"]["total"]) == (False, 1, 51)


async def test_members_get_messages_by_their_state_when_the_page_is_read(stage: Stage) -> None:
    batch = await stage.make_batch(130)
    assert (await stage.rows("SELECT count(*) AS n FROM schedules"))[0].n == 51
    stage.contacts.contacts[100]["opt_out"] = True
    stage.contacts.groups[1]["members"].remove(110)
    await stage.fan_out()
    detail = await stage.show_batch(batch["id"])
    assert (detail["child_count"], detail["counts"]["pending"]) == (128, 128)
    await stage.make_due()
    await stage.dispatch()
    assert len(await stage.dispatches()) == 128


async def test_pages_of_a_large_batch_follow_each_other_without_a_gap(stage: Stage) -> None:
    batch = await stage.make_batch(130)  # its messages are written in three steps
    stage.contacts.groups[1]["members"].remove(110)
    await stage.fan_out()
    contacts = []
    for page in ("?page=1", "?page=2", "?page=3"):
        contacts += [message["contact"] for message in (await stage.show_batch(batch["id"], page))["schedules"]]
    assert contacts == [contact for contact in range(1, 131) if contact != 110]


async def test_a_message_is_not_given_to_a_contact_that_has_or_may_get_one(stage: Stage) -> None:
    batch = await stage.make_batch(130)
    message = (await stage.show_batch(batch["id"]))["schedules"][0]
    url = f"/api/schedules/{message['id']}/"
    for reason in ("still being created", "has a message of this batch already"):
        answer = await stage.client("PATCH", url, {"contact": 120})
        assert answer.status_code == 400
        assert reason in answer.json()["contact"][0]
        await stage.fan_out()
    assert (await stage.show_batch(batch["id"]))["child_count"] == 130


async def test_a_fan_out_that_failed_continues_after_its_lease(stage: Stage) -> None:
    batch = await stage.make_batch(130)
    stage.contacts.unavailable = True
    with pytest.raises(Unavailable, match="contacts"):
        await fan_out_batches(stage.database, stage.services)
    stage.contacts.unavailable = False
    assert not await fan_out_batches(stage.database, stage.services), "the lease lasts"
    await stage.rows("UPDATE schedules SET fan_out_lease_until = now() WHERE kind = 'batch'")
    await stage.fan_out()
    assert (await stage.show_batch(batch["id"]))["counts"]["pending"] == 130


async def test_a_cancelled_batch_is_not_fanned_out_further(stage: Stage) -> None:
    batch = await stage.make_batch(80)
    assert (await stage.client("DELETE", f"/api/group-schedules/{batch['id']}/")).status_code == 204
    assert not await fan_out_batches(stage.database, stage.services)
    detail = await stage.show_batch(batch["id"])
    assert (detail["child_count"], detail["counts"]["cancelled"]) == (80, 80)
    assert (detail["expanding"], detail["pagination"]["total"]) == (False, 50), "members without a row are only counted"
