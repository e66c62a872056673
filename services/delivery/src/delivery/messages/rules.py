"""What follows from an answer, or from none: the table of bus.md, Delivery. Pure but for the jitter."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from common.events import Category, MessageFailed, MessageSent
from delivery.providers.base import (
    AccountFault,
    BatchRefused,
    CallError,
    NotConnected,
    Outcome,
    OutgoingMessage,
    Provider,
    Throttled,
)

LONGEST_BACK_OFF_S = 900.0
ERRORS: dict[str, str] = {
    "opted_out": "The recipient has opted out.",
    "blocked": "The organisation is closed.",
    "limit_exceeded": "The limit of this month was reached.",
    "expired": "The message could not be sent before its deadline.",
    "invalid_number": "This number is reserved for fiction and reaches nobody.",
    "outcome_unknown": "The provider did not say whether it took the message.",
}
_TOLD: dict[str, str] = {
    "provider_unavailable": "The provider could not be reached.",
    "account_error": "The provider refused our account.",
    "rate_limited": "The provider asked for patience.",
}


class Policy(BaseModel):
    """How often and how long is tried; times in seconds. The fields are settings of the same names."""

    model_config = ConfigDict(frozen=True)

    lease_s: float
    max_attempts: int
    retry_base_s: float
    replay_after_s: float
    replay_window_s: float


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a provider, as its row has it. `attempts` is each message's count, this one included.

    `request_id` is the one that set off all its messages, "" when several did.
    """

    key: UUID
    requests: int
    body: bytes
    message_ids: Sequence[int]
    attempts: Sequence[int]
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a request of a call means for one message. `status` is the message's next one.

    `replay`: the call may be repeated to learn more. `given_back`: the attempt does not count. `alone`: it goes in a
    call of its own.
    """

    message_id: int
    key: UUID
    requests: int
    status: Literal["sent", "failed", "retry_wait", "queued", "unknown"]
    provider_message_id: str | None = None
    category: Category | None = None
    error: str | None = None
    delay_s: float = 0.0
    given_back: int = 0
    alone: bool = False
    replay: bool = False


class OutcomeRow(Protocol):
    """The columns of a message that its events are made from."""

    id: int
    organisation_id: str
    schedule_id: int
    group_schedule_id: int | None
    run: int
    version: int
    status: str
    attempts: int
    provider: str | None
    provider_message_id: str | None
    sent_time: datetime | None
    category: Any
    error: str | None
    request_id: str


def outcome_event(row: OutcomeRow) -> MessageSent | MessageFailed:
    """The event that tells the outcome of a message that has one."""
    common: dict[str, Any] = {
        "organisation_id": row.organisation_id,
        "request_id": row.request_id,
        "message_id": row.id,
        "schedule_id": row.schedule_id,
        "group_schedule_id": row.group_schedule_id,
        "run": row.run,
        "version": row.version,
        "attempts": row.attempts,
        "provider": row.provider,
        "provider_message_id": row.provider_message_id,
    }
    if row.status == "sent":
        return MessageSent(**common, sent_time=row.sent_time)
    return MessageFailed(**common, category=row.category, error=row.error)


def make_batches(messages: Sequence[Any], size: int, most: int) -> list[list[Any]]:
    """At most `most` batches in order, of `size` at most; a message that is `alone` is a batch of its own."""
    batches: list[list[Any]] = []
    is_open = False
    for message in messages:
        if is_open and not message.alone and len(batches[-1]) < size:
            batches[-1].append(message)
            continue
        if len(batches) == most:
            break
        batches.append([message])
        is_open = not message.alone
    return batches


def refusal(message: Any, provider: Provider, fictional: frozenset[str]) -> Category | None:
    """Why a claimed message must not go out, None when it may."""
    if message.refusal is not None:
        return message.refusal  # type: ignore[no-any-return]
    if message.is_late:
        return "expired"
    if provider.is_vendor and message.phone in fictional:
        return "invalid_number"
    return None


def outgoing(message: Any) -> OutgoingMessage:
    """A claimed row as a provider gets it."""
    return OutgoingMessage(message.id, message.phone, message.text, message.subject, message.media_url)


def read_outcomes(call: Call, outcomes: Sequence[Outcome], policy: Policy) -> list[Result]:
    """An answer, item by item."""
    return [_read_outcome(call, place, outcome, policy) for place, outcome in enumerate(outcomes)]


def _read_outcome(call: Call, place: int, outcome: Outcome, policy: Policy) -> Result:
    message_id = call.message_ids[place]
    if outcome.status == "accepted":
        return Result(message_id, call.key, call.requests, "sent", outcome.provider_message_id)
    if outcome.status == "missing":  # a repetition would be answered with the same words
        return Result(message_id, call.key, call.requests, "unknown")
    if outcome.retryable:
        return _retry(call, place, outcome.category or "unknown", outcome.error or "Refused.", policy)
    return Result(
        message_id, call.key, call.requests, "failed", None, outcome.category or "unknown", outcome.error or "Refused."
    )


def read_error(call: Call, error: CallError, policy: Policy) -> list[Result]:
    """A call that failed as a whole. On a repetition nothing but an answer settles what the first request did."""
    places = range(len(call.message_ids))
    if error.maybe_taken or call.requests > 1:
        return [Result(call.message_ids[p], call.key, call.requests, "unknown", replay=True) for p in places]
    if isinstance(error, BatchRefused):
        return _split(call, error)
    told = _TOLD.get(error.category, error.reason)
    if isinstance(error, AccountFault):
        return [_retry(call, place, error.category, told, policy) for place in places]
    pause = error.retry_after_s if isinstance(error, Throttled) else 0.0
    assert isinstance(error, NotConnected | Throttled)
    return [
        Result(
            call.message_ids[place],
            call.key,
            call.requests,
            "retry_wait",
            category=error.category,
            error=told,
            delay_s=pause + random.uniform(0, max(pause, policy.retry_base_s / 4)),
            given_back=1,
        )
        for place in places
    ]


def _split(call: Call, error: BatchRefused) -> list[Result]:
    if len(call.message_ids) == 1:
        item = error.item
        return [
            Result(call.message_ids[0], call.key, call.requests, "failed", None, item.category or "unknown", item.error)
        ]
    return [Result(i, call.key, call.requests, "queued", given_back=1, alone=True) for i in call.message_ids]


def _retry(call: Call, place: int, category: Category, told: str, policy: Policy) -> Result:
    """Another attempt after a back-off with full jitter, or the end when there were enough."""
    message_id, attempts = call.message_ids[place], call.attempts[place]
    if attempts >= policy.max_attempts:
        return Result(message_id, call.key, call.requests, "failed", None, category, told)
    delay = random.uniform(0, min(LONGEST_BACK_OFF_S, policy.retry_base_s * 2.0 ** (attempts - 1)))
    return Result(message_id, call.key, call.requests, "retry_wait", category=category, error=told, delay_s=delay)
