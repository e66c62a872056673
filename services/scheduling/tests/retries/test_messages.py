"""The retry of one message."""

from services.scheduling.tests.stage import Stage

FAIL = """
    UPDATE schedules SET status = 'failed', failure_category = :category, error = 'No.', attempts = 5,
                         dispatch_number = 1
"""


async def test_a_schedule_that_has_not_failed_is_refused(stage: Stage) -> None:
    schedule = await stage.make_schedule()
    answer = await stage.client("POST", f"/api/schedules/{schedule['id']}/retry/")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_a_failed_schedule_is_dispatched_again(stage: Stage) -> None:
    schedule = await stage.make_schedule()
    await stage.rows(FAIL, category="blocked")
    answer = await stage.client("POST", f"/api/schedules/{schedule['id']}/retry/?status_format=v1")
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
    await stage.dispatch()
    [event] = await stage.dispatches()
    assert (event.schedule_id, event.dispatch_number) == (schedule["id"], 2)


async def test_an_unknown_outcome_is_retried_only_when_asked_for(stage: Stage) -> None:
    schedule = await stage.make_schedule()
    url = f"/api/schedules/{schedule['id']}/retry/"
    await stage.rows(FAIL, category="outcome_unknown")
    assert (await stage.client("POST", url)).status_code == 400
    assert (await stage.client("POST", f"{url}?include_unknown=maybe")).json()["include_unknown"]
    answer = await stage.client("POST", f"{url}?include_unknown=true")
    assert answer.status_code == 202
    again = answer.json()
    assert (again["status"], again["attempts"], again["error"], again["failure_category"]) == ("pending", 0, None, None)
