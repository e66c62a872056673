"""The end of a batch: its outcome, its cancellation, and the release of its reservation."""

import pytest

from common.errors import Unavailable
from services.scheduling.tests.stage import Stage

BATCHES = "/api/group-schedules/"


async def test_a_batch_finishes_when_no_message_is_open(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    await stage.make_due()
    await stage.dispatch()
    one, two = await stage.dispatches()
    await stage.consume(stage.failed(one.schedule_id))
    await stage.finish_batches()
    assert (await stage.show_batch(batch["id"]))["status"] == "processing"
    await stage.consume(stage.failed(two.schedule_id))
    await stage.finish_batches()
    finished = await stage.show_batch(batch["id"])
    assert finished["status"] == "failed"
    assert finished["error"]
    assert finished["failure_category"]


async def test_a_retried_batch_finishes_again(stage: Stage) -> None:
    batch = await stage.make_batch(4)
    retry = f"{BATCHES}{batch['id']}/retry/"
    await stage.make_due()
    await stage.dispatch()
    one, two, three, four = [event.schedule_id for event in await stage.dispatches()]
    await stage.consume(*(stage.failed(id_, failure_category="invalid_number") for id_ in (one, two, four)))
    await stage.consume(stage.failed(three, failure_category="outcome_unknown"))
    await stage.finish_batches()
    answer = await stage.client("POST", retry)
    assert (answer.status_code, answer.json()) == (202, {"retried": 3})
    assert (await stage.show_batch(batch["id"]))["status"] == "processing"
    await stage.clear_outbox()
    await stage.dispatch()
    again = await stage.dispatches()
    assert {(event.schedule_id, event.dispatch_number) for event in again} == {(one, 2), (two, 2), (four, 2)}
    # Late outcomes of the first dispatch change nothing.
    await stage.consume(stage.sent(one, version=9), stage.failed(two, version=9))
    await stage.finish_batches()
    assert (await stage.show_batch(batch["id"]))["status"] == "processing"
    await stage.consume(*(stage.failed(id_, dispatch_number=2) for id_ in (one, two, four)))
    await stage.finish_batches()
    assert (await stage.show_batch(batch["id"]))["status"] == "failed"
    # The message of unknown outcome arrived after all: the outcome of the batch is computed again.
    await stage.consume(stage.sent(three, version=2))
    assert (await stage.show_batch(batch["id"]))["status"] == "sent"
    assert (await stage.client.ok("POST", f"{retry}?include_unknown=true"))["retried"] == 3


async def test_the_rest_of_a_batch_in_processing_can_be_cancelled(stage: Stage) -> None:
    batch = await stage.make_batch(10)
    url = f"{BATCHES}{batch['id']}/"
    await stage.make_due()
    await stage.dispatch(bulk_window=4)
    first, *others = [event.schedule_id for event in await stage.dispatches()]
    assert (await stage.client("DELETE", url)).status_code == 204
    await stage.consume(stage.failed(first), *(stage.sent(id_) for id_ in others))
    await stage.finish_batches()
    detail = await stage.show_batch(batch["id"], "?status_format=v1")
    assert detail["counts"] == {"PENDING": 0, "SENT": 3, "FAILED": 1, "DELETED": 6}
    assert detail["status"] == "DELETED"
    answer = await stage.client("DELETE", url)
    assert (answer.status_code, answer.json()["code"]) == (400, "schedule_not_pending")
    pending = detail["schedules"][9]
    assert (await stage.client("PATCH", f"/api/schedules/{pending['id']}/", {"text": "x"})).status_code == 400


async def test_a_failed_message_of_a_cancelled_batch_can_be_retried(stage: Stage) -> None:
    batch = await stage.make_batch(10)
    await stage.make_due()
    await stage.dispatch(bulk_window=4)
    first, *others = [event.schedule_id for event in await stage.dispatches()]
    await stage.client("DELETE", f"{BATCHES}{batch['id']}/")
    await stage.consume(stage.failed(first, failure_category="invalid_number"), *(stage.sent(id_) for id_ in others))
    await stage.client.ok("POST", f"/api/schedules/{first}/retry/")
    await stage.clear_outbox()
    await stage.dispatch()
    [again] = await stage.dispatches()
    assert (again.schedule_id, again.dispatch_number) == (first, 2)
    await stage.consume(stage.sent(first, dispatch_number=2))
    await stage.finish_batches()
    detail = await stage.show_batch(batch["id"])
    assert (detail["status"], detail["counts"]["sent"], detail["counts"]["cancelled"]) == ("sent", 4, 6)


async def test_a_batch_whose_messages_were_all_cancelled_is_cancelled(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    for message in batch["schedules"]:
        await stage.client("DELETE", f"/api/schedules/{message['id']}/")
    await stage.make_due()
    await stage.dispatch()
    await stage.finish_batches()
    assert (await stage.show_batch(batch["id"]))["status"] == "cancelled"


async def test_a_reservation_is_used_by_the_first_dispatch_and_released_at_the_end(stage: Stage) -> None:
    body = {"message": "Hi", "group_id": stage.make_group(2)}
    accepted = await stage.client.ok("POST", "/api/sms/send-to-group/", body)
    [(reference, reservation)] = stage.delivery.reservations.items()
    assert reservation["parts"] == 2
    await stage.dispatch()
    assert {str(event.reservation) for event in await stage.dispatches()} == {reference}
    await stage.finish_batches()
    assert not await stage.release_reservations()
    await stage.rows("UPDATE schedules SET status = 'sent' WHERE kind = 'batch_message'")
    await stage.finish_batches()
    stage.delivery.unavailable = True
    with pytest.raises(Unavailable, match="delivery"):
        await stage.release_reservations()
    stage.delivery.unavailable = False
    await stage.release_reservations()
    assert stage.delivery.released == [reference]
    assert (await stage.show_batch(accepted["group_schedule_id"]))["status"] == "sent"
    assert not await stage.release_reservations()
