"""Sends that wait for their outcome (`Prefer: wait=N`), and their replays under an idempotency key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.scheduling.tests.stage import Stage

SEND = "/api/sms/send/"
GROUP = "/api/sms/send-to-group/"
ONE = {"message": "Hi", "recipient": "0491 000 999"}
KEY = {"Idempotency-Key": "k1"}
FAIL = "UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'No.'"
Eventually = Callable[..., Awaitable[Any]]


async def is_written(stage: Stage) -> bool:
    return bool(await stage.rows("SELECT 1 FROM schedules"))


@pytest.mark.parametrize(("outcome", "status"), [("UPDATE schedules SET status = 'sent'", 200), (FAIL, 502)])
async def test_a_waiting_send_answers_with_its_outcome(
    stage: Stage, eventually: Eventually, outcome: str, status: int
) -> None:
    prefer = {"Prefer": "respond-async, wait=99"}
    waiting = asyncio.create_task(stage.client("POST", SEND, ONE, headers=prefer))
    await eventually(lambda: is_written(stage))
    await stage.rows(outcome)
    answer = await waiting
    assert answer.status_code == status
    assert answer.headers["Preference-Applied"] == "wait=30"
    final = answer.json()
    assert final["success"] is (status == 200)
    assert final["schedule_id"]
    if status == 502:
        assert (final["error"], final["failure_category"]) == ("No.", "blocked")
        assert final["request_id"] == answer.headers["X-Request-ID"]
        assert final["code"]


async def test_a_wait_without_an_outcome_answers_what_was_accepted(stage: Stage) -> None:
    answer = await stage.client("POST", SEND, ONE, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=1")
    answer = await stage.client("POST", SEND, ONE, headers={"Prefer": "wait=soon"})
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (202, False)


@pytest.mark.parametrize(("sent", "status"), [(3, 200), (1, 207), (0, 502)])
async def test_a_waiting_send_to_a_group_answers_with_its_counts(
    stage: Stage, eventually: Eventually, sent: int, status: int
) -> None:
    body = {"message": "x", "group_id": stage.make_group(3)}
    waiting = asyncio.create_task(stage.client("POST", GROUP, body, headers={"Prefer": "wait=30"}))
    await eventually(lambda: is_written(stage))
    await stage.rows(f"{FAIL} WHERE kind = 'batch_message'")
    await stage.rows(
        "UPDATE schedules SET status = 'sent' WHERE id IN"
        " (SELECT id FROM schedules WHERE kind = 'batch_message' ORDER BY id LIMIT :sent)",
        sent=sent,
    )
    await stage.finish_batches()
    answer = await waiting
    assert answer.status_code == status
    assert answer.json()["success"] is (sent > 0)
    assert answer.json()["results"] == {"successful": sent, "failed": 3 - sent, "total": 3}


async def test_a_replay_that_waits_has_the_outcome(stage: Stage) -> None:
    first = await stage.client("POST", SEND, ONE, headers=KEY)
    await stage.rows(FAIL)
    answer = await stage.client("POST", SEND, ONE, headers={**KEY, "Prefer": "wait=5"})
    assert (answer.status_code, answer.json()["schedule_id"]) == (502, first.json()["schedule_id"])
    assert answer.headers["Idempotent-Replayed"] == "true"


async def test_a_replay_of_a_send_that_waited_has_the_outcome_known_by_then(stage: Stage) -> None:
    first = await stage.client("POST", SEND, ONE, headers={**KEY, "Prefer": "wait=0.1, wait=1"})
    assert first.status_code == 202
    again = await stage.client("POST", SEND, ONE, headers=KEY)
    assert (again.status_code, again.json()) == (202, first.json())
    await stage.rows(FAIL)
    for _ in range(2):
        again = await stage.client("POST", SEND, ONE, headers=KEY)
        assert (again.status_code, again.json()["failure_category"]) == (502, "blocked")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert "Preference-Applied" not in again.headers
    await stage.rows("UPDATE schedules SET status = 'delivered', failure_category = NULL, error = NULL")
    again = await stage.client("POST", SEND, ONE, headers={**KEY, "Prefer": "wait=1"})
    assert (again.status_code, again.json()["status"]) == (200, "delivered")
    assert again.headers["Preference-Applied"] == "wait=1"
    assert len(await stage.rows("SELECT 1 FROM schedules")) == 1


async def test_a_replay_of_a_send_that_did_not_wait_has_its_first_answer(stage: Stage) -> None:
    first = await stage.client("POST", SEND, ONE, headers=KEY)
    await stage.rows(FAIL)
    again = await stage.client("POST", SEND, ONE, headers=KEY)
    assert (again.status_code, again.json()) == (202, first.json())


async def test_a_replay_of_a_batch_that_waited_has_its_counts(stage: Stage) -> None:
    body = {"message": "Hi", "group_id": stage.make_group(2)}
    first = await stage.client("POST", GROUP, body, headers={**KEY, "Prefer": "wait=1"})
    assert first.status_code == 202
    await stage.rows("UPDATE schedules SET status = CASE kind WHEN 'batch' THEN 'sent' ELSE 'delivered' END")
    await stage.rows(f"{FAIL} WHERE id = (SELECT max(id) FROM schedules)")
    again = await stage.client("POST", GROUP, body, headers=KEY)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (207, "true")
    assert again.json()["results"] == {"successful": 1, "failed": 1, "total": 2}
