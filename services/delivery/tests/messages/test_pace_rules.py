"""The token bucket and the circuit breaker, on a clock that stands still until it is moved."""

import pytest

from delivery.messages.pace import Breaker, Bucket
from delivery.providers.base import (
    AccountFault,
    BatchRefused,
    CallError,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    Throttled,
)

NO_CONNECTION, NO_ANSWER, FAULT = NotConnected("refused"), OutcomeUnknown("reset"), AccountFault("401")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def make_calls(breaker: Breaker, *errors: CallError | None) -> list[str]:
    return [breaker.end(breaker.begin(), error) for error in errors]


@pytest.mark.parametrize(("error", "enough"), [(NO_CONNECTION, 3), (NO_ANSWER, 10), (FAULT, 1)])
def test_enough_failures_in_a_row_open_it(breaker: Breaker, error: CallError, enough: int) -> None:
    assert set(make_calls(breaker, *[error] * (enough - 1))) <= {"unchanged"}
    assert breaker.state == "closed"
    assert make_calls(breaker, error) == ["opened"]
    assert breaker.state == "open"


@pytest.mark.parametrize(
    "answer", [None, Throttled("busy", 1), BatchRefused("bad", Outcome("refused", category="content_rejected"))]
)
def test_an_answer_of_any_kind_shows_that_the_provider_is_there(breaker: Breaker, answer: CallError | None) -> None:
    make_calls(breaker, NO_CONNECTION, NO_CONNECTION, answer, NO_CONNECTION, NO_CONNECTION)
    assert breaker.state == "closed"


def test_one_canary_goes_when_the_pause_is_over_and_its_success_closes_it(breaker: Breaker, clock: Clock) -> None:
    make_calls(breaker, FAULT)
    clock.now += 29.9
    assert breaker.state == "open"
    clock.now += 0.2
    assert breaker.state == "half_open"
    canary = breaker.begin()
    assert breaker.state == "open", "one is enough"
    assert breaker.end(canary) == "closed"
    assert breaker.state == "closed"
    make_calls(breaker, NO_CONNECTION, NO_CONNECTION)
    assert breaker.state == "closed", "what went before is forgotten"


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (NO_CONNECTION, [0.5, 1, 2, 4, 8, 16, 32, 60, 60]),
        (NO_ANSWER, [5, 10, 20, 40, 60, 60]),
        (FAULT, [30, 60, 120, 240, 300, 300]),
    ],
)
def test_each_canary_that_fails_makes_the_pause_longer_up_to_a_bound(
    breaker: Breaker, clock: Clock, error: CallError, pauses: list[float]
) -> None:
    while breaker.state == "closed":
        make_calls(breaker, error)
    for pause in pauses:
        clock.now += pause * 0.99
        assert breaker.state == "open"
        clock.now += pause * 0.02
        assert breaker.state == "half_open"
        assert make_calls(breaker, error) == ["unchanged"], "its opening is told once"


def test_answers_to_what_was_asked_before_it_opened_change_nothing(breaker: Breaker, clock: Clock) -> None:
    early = [breaker.begin() for _ in range(3)]
    make_calls(breaker, FAULT)
    assert [breaker.end(begun, error) for begun, error in zip(early, (None, FAULT, NO_CONNECTION), strict=True)] == [
        "unchanged"
    ] * 3
    assert breaker.state == "open"
    clock.now += 30.1
    canary = breaker.begin()
    assert breaker.end(early[0]) == "unchanged"
    assert breaker.state == "open", "the canary is still out"
    assert breaker.end(canary) == "closed"


def test_a_rate_of_nothing_has_no_bound(clock: Clock) -> None:
    bucket = Bucket(0, clock)
    bucket.take(10**9)
    assert bucket.fit([10**6] * 3) == 3
    assert bucket.most() > 10**9


def test_tokens_come_at_the_rate_and_a_second_of_them_is_kept(clock: Clock) -> None:
    bucket = Bucket(10, clock)
    assert bucket.fit([4, 4, 4]) == 2
    bucket.take(8)
    assert (bucket.fit([4]), bucket.fit([1, 1, 1]), bucket.most()) == (0, 2, 2)
    clock.now += 0.5
    assert bucket.fit([4, 4]) == 1
    clock.now += 100
    assert bucket.fit([1] * 20) == 10


def test_a_message_larger_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt(clock: Clock) -> None:
    bucket = Bucket(2, clock)
    bucket.take(1)
    assert bucket.fit([5]) == 0, "not full"
    clock.now += 0.5
    assert bucket.fit([5, 1]) == 1
    bucket.take(5)
    assert (bucket.fit([1]), bucket.most()) == (0, 0)
    clock.now += 1.9
    assert bucket.fit([1]) == 0
    clock.now += 0.2
    assert bucket.fit([1]) == 1


def test_less_than_one_part_a_second_still_goes(clock: Clock) -> None:
    bucket = Bucket(0.5, clock)
    assert (bucket.most(), bucket.fit([1, 1])) == (1, 1)
    bucket.take(1)
    assert bucket.most() == 0
    clock.now += 2.1
    assert (bucket.most(), bucket.fit([1])) == (1, 1)
