"""How many requests are made at once, and when a message is tried again."""

from typing import Any
from uuid import uuid4

import pytest

from delivery.providers.base import AccountError, NotConnected, Outcome, SubmissionError, Throttled
from delivery.sending import loops, rules
from delivery.sending.rules import Submission
from services.delivery.tests.stage import POLICY, Stage

BUSY = Outcome("refused", failure_category="rate_limited", error="Later.", retryable=True, raw="busy", parts=0)


def submission(attempts: int = 1) -> Submission:
    return Submission(key=uuid4(), tries=1, body=b"", message_ids=[7], attempts=[attempts], parts=1)


@pytest.mark.parametrize(("attempts", "longest"), [(1, 60), (2, 120), (4, 480)])
def test_the_back_off_doubles_with_full_jitter(attempts: int, longest: float) -> None:
    policy = POLICY.model_copy(update={"retry_base_s": 60, "max_attempts": 9})
    results = [rules.read_outcomes(submission(attempts), [BUSY], policy)[0] for _ in range(300)]
    delays = [result.retry.delay_s for result in results]
    assert 0 <= min(delays) < longest / 4
    assert longest * 3 / 4 < max(delays) <= longest
    assert {(result.status, result.retry.returns_attempt) for result in results} == {("retry_wait", False)}


def test_the_back_off_is_at_most_a_quarter_of_an_hour() -> None:
    policy = POLICY.model_copy(update={"retry_base_s": 60, "max_attempts": 99})
    assert all(rules.read_outcomes(submission(30), [BUSY], policy)[0].retry.delay_s <= 900 for _ in range(100))


def test_a_retryable_refusal_is_tried_again_until_the_last_attempt() -> None:
    assert rules.read_outcomes(submission(1), [BUSY], POLICY)[0].status == "retry_wait"
    (last,) = rules.read_outcomes(submission(3), [BUSY], POLICY)
    assert (last.status, last.answer.raw, last.answer.parts) == ("failed", "busy", 0)


@pytest.mark.parametrize(
    ("error", "status"),
    [(Throttled("busy", 5), "retry_wait"), (NotConnected("refused"), "queued"), (AccountError("no"), "queued")],
)
def test_an_error_that_is_not_about_the_message_does_not_count_the_attempt(error: SubmissionError, status: str) -> None:
    (result,) = rules.read_error(submission(99), error, POLICY)
    assert (result.status, result.retry.returns_attempt) == (status, True)


async def test_throttling_halves_the_requests_at_once_and_answers_increase_them_again(stage: Stage) -> None:
    worker = stage.make_worker(batch_size=1)
    stage.provider.script += [stage.provider.answer(429)] * 2
    await stage.add_due(*(stage.due() for _ in range(2)))
    await stage.send(worker)
    assert worker.free_slots() == 2
    await stage.add_due(*(stage.due() for _ in range(12)))
    for _ in range(6):
        await stage.send(worker)
    assert worker.free_slots() == 8


async def test_no_more_requests_are_made_at_once_than_the_provider_allows(stage: Stage, eventually: Any) -> None:
    stage.provider.script += [stage.provider.accept_and_wait] * 20
    await stage.add_due(*(stage.due() for _ in range(20)))
    worker = stage.make_worker(batch_size=1, concurrency=3)
    for _ in range(3):
        await stage.claim(worker)

    async def all_in_flight() -> bool:
        return len(stage.provider.requests) == 3

    await eventually(all_in_flight)
    assert len(await stage.rows("SELECT 1 FROM messages WHERE status = 'sending'")) == 3
    stage.provider.release.set()
    await loops.drain(stage.database, worker)
    assert len(await stage.rows("SELECT 1 FROM messages WHERE status = 'sent'")) == 3
