"""The token bucket and the circuit circuit, on a clock that only the test moves."""

import pytest

from delivery.providers.base import (
    AccountError,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    SubmissionError,
    SubmissionRefused,
    Throttled,
)
from delivery.sending.throttling import CircuitBreaker, TokenBucket

NO_CONNECTION, NO_ANSWER, ACCOUNT_ERROR = NotConnected("refused"), OutcomeUnknown("reset"), AccountError("401")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def submit(circuit: CircuitBreaker, *errors: SubmissionError | None) -> list[str]:
    return [circuit.finish(circuit.start(), error) for error in errors]


@pytest.mark.parametrize(("error", "enough"), [(NO_CONNECTION, 3), (NO_ANSWER, 10), (ACCOUNT_ERROR, 1)])
def test_enough_failures_in_a_row_open_the_circuit(
    circuit: CircuitBreaker, error: SubmissionError, enough: int
) -> None:
    assert set(submit(circuit, *[error] * (enough - 1))) <= {"unchanged"}
    assert circuit.state == "closed"
    assert submit(circuit, error) == ["opened"]
    assert circuit.state == "open"


@pytest.mark.parametrize(
    "answer",
    [None, Throttled("busy", 1), SubmissionRefused("bad", Outcome("refused", failure_category="content_rejected"))],
)
def test_any_answer_shows_that_the_provider_is_available(
    circuit: CircuitBreaker, answer: SubmissionError | None
) -> None:
    submit(circuit, NO_CONNECTION, NO_CONNECTION, answer, NO_CONNECTION, NO_CONNECTION)
    assert circuit.state == "closed"


def test_one_submission_tests_the_provider_after_the_pause_and_its_success_closes_the_circuit(
    circuit: CircuitBreaker, clock: Clock
) -> None:
    submit(circuit, ACCOUNT_ERROR)
    clock.now += 29.9
    assert circuit.state == "open"
    clock.now += 0.2
    assert circuit.state == "half_open"
    test = circuit.start()
    assert circuit.state == "open", "one submission is enough"
    assert circuit.finish(test) == "closed"
    assert circuit.state == "closed"
    submit(circuit, NO_CONNECTION, NO_CONNECTION)
    assert circuit.state == "closed", "earlier failures do not count"


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (NO_CONNECTION, [0.5, 1, 2, 4, 8, 16, 32, 60, 60]),
        (NO_ANSWER, [5, 10, 20, 40, 60, 60]),
        (ACCOUNT_ERROR, [30, 60, 120, 240, 300, 300]),
    ],
)
def test_each_failed_test_makes_the_pause_longer_up_to_a_maximum(
    circuit: CircuitBreaker, clock: Clock, error: SubmissionError, pauses: list[float]
) -> None:
    while circuit.state == "closed":
        submit(circuit, error)
    for pause in pauses:
        clock.now += pause * 0.99
        assert circuit.state == "open"
        clock.now += pause * 0.02
        assert circuit.state == "half_open"
        assert submit(circuit, error) == ["reopened"], "a failed test is no first opening"


def test_results_of_submissions_before_the_opening_change_nothing(circuit: CircuitBreaker, clock: Clock) -> None:
    early = [circuit.start() for _ in range(3)]
    submit(circuit, ACCOUNT_ERROR)
    assert [
        circuit.finish(begun, error) for begun, error in zip(early, (None, ACCOUNT_ERROR, NO_CONNECTION), strict=True)
    ] == ["unchanged"] * 3
    assert circuit.state == "open"
    clock.now += 30.1
    test = circuit.start()
    assert circuit.finish(early[0]) == "unchanged"
    assert circuit.state == "open", "the test has no result yet"
    assert circuit.finish(test) == "closed"


def test_a_rate_of_zero_is_no_limit(clock: Clock) -> None:
    bucket = TokenBucket(0, clock)
    bucket.take(10**9)
    assert bucket.allowance().fit([10**6] * 3) == 3
    assert bucket.allowance().max_messages() > 10**9


def test_tokens_arrive_at_the_rate_and_at_most_those_of_a_second_are_stored(clock: Clock) -> None:
    bucket = TokenBucket(10, clock)
    assert bucket.allowance().fit([4, 4, 4]) == 2
    bucket.take(8)
    assert (bucket.allowance().fit([4]), bucket.allowance().fit([1, 1, 1]), bucket.allowance().max_messages()) == (
        0,
        2,
        2,
    )
    clock.now += 0.5
    assert bucket.allowance().fit([4, 4]) == 1
    clock.now += 100
    assert bucket.allowance().fit([1] * 20) == 10


def test_a_message_larger_than_the_bucket_is_allowed_when_it_is_full_and_leaves_a_debt(clock: Clock) -> None:
    bucket = TokenBucket(2, clock)
    bucket.take(1)
    assert bucket.allowance().fit([5]) == 0, "not full"
    clock.now += 0.5
    assert bucket.allowance().fit([5, 1]) == 1
    bucket.take(5)
    assert (bucket.allowance().fit([1]), bucket.allowance().max_messages()) == (0, 0)
    clock.now += 1.9
    assert bucket.allowance().fit([1]) == 0
    clock.now += 0.2
    assert bucket.allowance().fit([1]) == 1


def test_a_rate_below_one_part_per_second_allows_one_part_at_a_time(clock: Clock) -> None:
    bucket = TokenBucket(0.5, clock)
    assert (bucket.allowance().max_messages(), bucket.allowance().fit([1, 1])) == (1, 1)
    bucket.take(1)
    assert bucket.allowance().max_messages() == 0
    clock.now += 2.1
    assert (bucket.allowance().max_messages(), bucket.allowance().fit([1])) == (1, 1)
