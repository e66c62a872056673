"""What follows from a provider's answer, or from none. Pure, except for the random part of back-offs."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from common.events import FailureCategory
from common.logs import redact_text
from common.phones import FICTIONAL_MOBILES
from delivery.messages.rules import Answer, Failure, Result, Retry, describe_provider_failure
from delivery.models import ClaimedMessage, Lane, MessageStatus
from delivery.providers.base import Outcome, OutgoingMessage, Provider, SubmissionError, SubmissionRefused, Throttled
from delivery.providers.webhook_parsing import storable_text
from delivery.sending.throttling import Allowance

MAX_BACK_OFF_S = 900.0
_MAX_REASON = 200
# A shorter delay is over before anyone reads about it, and a provider that throttles would flood the bus with events.
# Where the first back-off is shorter, as in the embedded stack, that is the bound.
PUBLISHED_DELAY_S = 5.0
# The errors of submissions that failed as a whole and are tried again.
_DELAYS: dict[FailureCategory, str] = {
    "provider_unavailable": "The provider could not be reached.",
    "account_error": "The provider refused our account.",
    "rate_limited": "The provider limits how fast messages are sent.",
}


class SendingPolicy(BaseModel):
    """How often and how long sending is tried, in seconds. The fields are settings of the same names."""

    model_config = ConfigDict(frozen=True)

    lease_s: float
    max_attempts: int
    retry_base_s: float
    replay_after_s: float
    replay_window_s: float


class LanePositions(NamedTuple):
    """Where the round over the organisations is, for each lane: the organisation that was served last, "" at first."""

    single: str = ""
    bulk: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a provider worker can send of one format now.

    At most `messages` in at most `submissions`, and what the `allowance` permits, from `positions` on.
    """

    message_format: str
    submissions: int
    messages: int
    allowance: Allowance
    positions: LanePositions


@dataclass(frozen=True, slots=True)
class Submission:
    """One HTTP request to a provider, as its row has it.

    `tries` counts this request. `attempts` has each message's attempts, this one included. `parts` is what it takes of
    the provider's rate. `request_id` is that of the API request that caused all its messages, "" if several did.
    `traceparents` are the traces of its messages.
    """

    key: UUID
    tries: int
    body: bytes
    message_ids: Sequence[int]
    attempts: Sequence[int]
    parts: int
    request_id: str = ""
    traceparents: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """The submissions that a claim made, and the positions for the next claim. They count once it is committed.

    `is_full`: the claim took as much as it could, so there may be more.
    """

    submissions: Sequence[Submission]
    positions: LanePositions
    is_full: bool = False


def find_refusal(message: ClaimedMessage, provider: Provider) -> FailureCategory | None:
    """Return the reason why a claimed message must not be sent, or None."""
    if message.refusal is not None:
        return message.refusal
    if message.is_expired:
        return "expired"
    if provider.reaches_people and message.phone in FICTIONAL_MOBILES:
        return "invalid_number"
    return None


def make_batches(messages: Sequence[ClaimedMessage], size: int, max_batches: int) -> list[list[ClaimedMessage]]:
    """Return the messages in batches, in order. Messages that do not fit into `max_batches` are left out.

    A batch has at most `size` messages. A message that is separate has a batch of its own.
    """
    batches: list[list[ClaimedMessage]] = []
    is_open = False
    for message in messages:
        if is_open and not message.is_separate and len(batches[-1]) < size:
            batches[-1].append(message)
            continue
        if len(batches) == max_batches:
            break
        batches.append([message])
        is_open = not message.is_separate
    return batches


def outgoing(message: ClaimedMessage, sender_ids: Mapping[str, str]) -> OutgoingMessage:
    """Return a claimed message as a provider gets it. `sender_ids` are the organisations' own."""
    return OutgoingMessage(
        id=message.id,
        phone=message.phone,
        text=message.text,
        format=message.format,
        sender_id=sender_ids.get(message.organisation_id),
        subject=message.subject,
        media_url=message.media_url,
    )


def make_submission(key: UUID, messages: Sequence[ClaimedMessage], body: bytes) -> Submission:
    """Return the submission of a batch of claimed messages, before its first try."""
    request_ids = {message.request_id for message in messages}
    return Submission(
        key=key,
        tries=1,
        body=body,
        message_ids=[message.id for message in messages],
        attempts=[message.attempts + 1 for message in messages],
        parts=sum(message.parts for message in messages),
        request_id=request_ids.pop() if len(request_ids) == 1 else "",
        traceparents=[message.traceparent for message in messages],
    )


def next_positions(
    capacity: Capacity, claimed: Sequence[ClaimedMessage], allowed: Sequence[ClaimedMessage] | None
) -> LanePositions:
    """Return where the next claim begins: after the last organisation that was served, else at the beginning.

    It begins after it when there were more organisations than messages to claim, or when the allowance ran out
    (`allowed` are the messages for which it was enough).
    """

    def after(lane: Lane) -> str:
        served = [message.organisation_id for message in claimed if message.lane == lane]
        is_cut = len(claimed) == capacity.messages and len(set(served)) == len(served)
        if allowed is not None:
            served, is_cut = [message.organisation_id for message in allowed if message.lane == lane], True
        return max(served) if served and is_cut else ""

    return LanePositions(single=after(Lane.SINGLE), bulk=after(Lane.BULK))


def read_outcomes(submission: Submission, outcomes: Sequence[Outcome], policy: SendingPolicy) -> list[Result]:
    """Return what an answer means for each message."""
    return [_read_outcome(submission, index, outcome, policy) for index, outcome in enumerate(outcomes)]


def _read_outcome(submission: Submission, index: int, outcome: Outcome, policy: SendingPolicy) -> Result:
    answer = Answer(outcome.provider_message_id, outcome.parts, outcome.raw)
    if outcome.status == "accepted":
        return _result(submission, index, MessageStatus.SENT, answer=answer)
    if outcome.status == "missing":  # a resend would be answered with the same bytes
        return _result(submission, index, MessageStatus.UNKNOWN, answer=Answer(raw=outcome.raw))
    failure = _refused(outcome)
    if outcome.retryable and submission.attempts[index] < policy.max_attempts:
        back_off_s = min(MAX_BACK_OFF_S, policy.retry_base_s * 2.0 ** (submission.attempts[index] - 1))
        retry = Retry(delay_s=random.uniform(0, back_off_s))
        answer = replace(answer, provider_message_id=None)  # the next attempt gets an id of its own
        return _result(submission, index, MessageStatus.RETRY_WAIT, failure=failure, answer=answer, retry=retry)
    return _result(submission, index, MessageStatus.FAILED, failure=failure, answer=answer)


def read_error(
    submission: Submission, error: SubmissionError, policy: SendingPolicy, unavailable_s: float = 0.0
) -> list[Result]:
    """Return what a submission that failed as a whole means for each message.

    `unavailable_s` is how long the provider's circuit is open now, if there is no other provider to use; else 0.
    """
    indexes = range(len(submission.message_ids))
    if error.maybe_accepted or submission.tries > 1:
        # The error of a resend says nothing about what the first try did. Only an answer does.
        unknown = [_result(submission, index, MessageStatus.UNKNOWN, answer=_reason(error)) for index in indexes]
        return [replace(result, may_resend=True) for result in unknown]
    if isinstance(error, SubmissionRefused):
        return _split(submission, error)
    failure = Failure(error.failure_category, _DELAYS.get(error.failure_category, error.reason))
    if isinstance(error, Throttled):
        spread_s = max(error.retry_after_s, policy.retry_base_s / 4)
        delays = [error.retry_after_s + random.uniform(0, spread_s) for _ in indexes]
        return [_delay(submission, index, failure, delay_s=delay, error=error) for index, delay in enumerate(delays)]
    # There was no connection, or the account is wrong. Nothing was sent, and the next provider claims the messages at
    # once. Where there is no other, they wait longer than the circuit is open: the message that tests the circuit is
    # then another one, and a message that always causes the error does not make the provider unavailable to the others.
    delays = [unavailable_s * random.uniform(1.0, 1.5) for _ in indexes]
    return [_delay(submission, index, failure, delay_s=delay_s, error=error) for index, delay_s in enumerate(delays)]


def _reason(error: SubmissionError) -> Answer:
    """Return the provider's own text for operators. The error that members see has only our category."""
    return Answer(raw=redact_text(storable_text(error.reason))[:_MAX_REASON] or None)


def _delay(submission: Submission, index: int, failure: Failure, *, delay_s: float, error: SubmissionError) -> Result:
    """Return a result that does not count the attempt. Without a delay the message is queued again at once."""
    status = MessageStatus.RETRY_WAIT if delay_s else MessageStatus.QUEUED
    retry = Retry(delay_s=delay_s, returns_attempt=True)
    return _result(submission, index, status, failure=failure, answer=_reason(error), retry=retry)


def _split(submission: Submission, error: SubmissionRefused) -> list[Result]:
    """Submit the messages of a refused submission one by one. A message that was refused alone fails."""
    if len(submission.message_ids) > 1:
        retry = Retry(returns_attempt=True, is_separate=True)
        return [
            _result(submission, index, MessageStatus.QUEUED, retry=retry)
            for index in range(len(submission.message_ids))
        ]
    item = error.item
    return [_result(submission, 0, MessageStatus.FAILED, failure=_refused(item), answer=Answer(raw=item.raw))]


def _refused(outcome: Outcome) -> Failure:
    category = outcome.failure_category or "unknown"
    return Failure(category, describe_provider_failure(category, outcome.error))


def _result(
    submission: Submission,
    index: int,
    status: MessageStatus,
    *,
    failure: Failure | None = None,
    answer: Answer | None = None,
    retry: Retry | None = None,
) -> Result:
    return Result(
        message_id=submission.message_ids[index],
        key=submission.key,
        tries=submission.tries,
        status=status,
        failure=failure,
        answer=answer or Answer(),
        retry=retry or Retry(),
    )
