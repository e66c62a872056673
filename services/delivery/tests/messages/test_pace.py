"""How many requests are made at once, and when a message is tried again."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from common.database import Database
from common.events import ScheduleDue
from delivery.messages import loops, rules
from delivery.messages.rules import Call, Policy
from delivery.messages.sender import Sender
from delivery.providers.base import AccountFault, NotConnected, Outcome, Throttled

Due = Callable[..., ScheduleDue]


def call(attempts: int = 1, requests: int = 1) -> Call:
    return Call(uuid4(), requests, b"", [7], [attempts], 1)


BUSY = Outcome("refused", category="rate_limited", error="Later.", retryable=True, raw="busy", parts=0)


@pytest.mark.parametrize(("attempts", "longest"), [(1, 60), (2, 120), (4, 480)])
def test_the_back_off_doubles_with_full_jitter(policy: Policy, attempts: int, longest: float) -> None:
    patient = policy.model_copy(update={"retry_base_s": 60, "max_attempts": 9})
    results = [rules.read_outcomes(call(attempts), [BUSY], patient)[0] for _ in range(300)]
    delays = [result.delay_s for result in results]
    assert 0 <= min(delays) < longest / 4
    assert longest * 3 / 4 < max(delays) <= longest
    assert {(result.status, result.given_back) for result in results} == {("retry_wait", 0)}


def test_the_back_off_ends_at_a_quarter_of_an_hour(policy: Policy) -> None:
    patient = policy.model_copy(update={"retry_base_s": 60, "max_attempts": 99})
    assert all(rules.read_outcomes(call(30), [BUSY], patient)[0].delay_s <= 900 for _ in range(100))


def test_an_item_that_may_be_tried_again_is(policy: Policy) -> None:
    assert rules.read_outcomes(call(1), [BUSY], policy)[0].status == "retry_wait"
    (last,) = rules.read_outcomes(call(3), [BUSY], policy)
    assert (last.status, last.raw, last.parts) == ("failed", "busy", 0)


@pytest.mark.parametrize(
    ("error", "status"),
    [(Throttled("busy", 5), "retry_wait"), (NotConnected("refused"), "queued"), (AccountFault("no"), "queued")],
)
def test_what_is_not_the_messages_fault_gives_the_attempt_back(policy: Policy, error: Any, status: str) -> None:
    (result,) = rules.read_error(call(99), error, policy)
    assert (result.status, result.given_back) == (status, 1)


async def test_a_throttling_halves_what_goes_at_once_and_answers_bring_it_back(
    due: Due, take_in: Any, make_sender: Callable[..., Sender], send: Any, carrier: Any
) -> None:
    sender = make_sender(mobile_message_batch_size=1)
    carrier.script += [carrier.answer(429)] * 2
    await take_in(*(due() for _ in range(2)))
    await send(sender)
    assert sender.free_slots() == 2
    await take_in(*(due() for _ in range(12)))
    for _ in range(6):
        await send(sender)
    assert sender.free_slots() == 8


async def test_no_more_requests_are_in_flight_than_the_provider_allows(
    due: Due,
    take_in: Any,
    make_sender: Callable[..., Sender],
    claim: Any,
    carrier: Any,
    database: Database,
    eventually: Any,
    rows: Callable[..., Awaitable[list[Any]]],
) -> None:
    carrier.script += [carrier.take_and_wait] * 20
    await take_in(*(due() for _ in range(20)))
    sender = make_sender(mobile_message_batch_size=1, mobile_message_concurrency=3)
    for _ in range(3):
        await claim(sender)

    async def all_in_flight() -> bool:
        return len(carrier.requests) == 3

    await eventually(all_in_flight)
    assert len(await rows("SELECT 1 FROM messages WHERE status = 'sending'")) == 3
    carrier.release.set()
    await loops.drain(database, sender)
    assert len(await rows("SELECT 1 FROM messages WHERE status = 'sent'")) == 3
