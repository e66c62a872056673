"""What a provider's refusal means for a message."""

from uuid import uuid4

import pytest

from delivery.messages.rules import describe_provider_failure
from delivery.models import MessageStatus
from delivery.providers.base import Outcome
from delivery.sending.rules import SendingPolicy, Submission, read_outcomes

POLICY = SendingPolicy(lease_s=60, max_attempts=3, retry_base_s=1, replay_after_s=1, replay_window_s=60)


def make_submission(attempt: int) -> Submission:
    return Submission(key=uuid4(), tries=1, body=b"", message_ids=[7], attempts=[attempt], parts=1)


def test_a_refused_message_has_a_sentence_with_the_words_of_the_provider_and_its_id() -> None:
    outcome = Outcome("refused", "SM1", "unroutable", "failed, code 30003: Unreachable handset", raw="failed")
    (result,) = read_outcomes(make_submission(1), [outcome], POLICY)
    assert result.failure is not None
    assert (result.status, result.failure.category) == (MessageStatus.FAILED, "unroutable")
    assert result.failure.error == (
        "The recipient's network or phone cannot be reached. The provider says: failed, code 30003: Unreachable handset"
    )
    assert (result.answer.provider_message_id, result.answer.raw) == ("SM1", "failed")


@pytest.mark.parametrize(("attempt", "status", "kept"), [(1, "retry_wait", None), (3, "failed", "SM1")])
def test_a_message_that_is_tried_again_gets_another_id(attempt: int, status: str, kept: str | None) -> None:
    outcome = Outcome("refused", "SM1", "rate_limited", "busy", retryable=True)
    (result,) = read_outcomes(make_submission(attempt), [outcome], POLICY)
    assert (result.status, result.answer.provider_message_id) == (status, kept)


def test_a_failure_without_words_is_a_sentence() -> None:
    assert describe_provider_failure("unknown", None) == "The provider could not deliver this message."
    assert len(describe_provider_failure("blocked", "x" * 5000)) == 500
