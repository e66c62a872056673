"""What follows from an answer, or from none: the table of bus.md, Delivery. Pure but for the jitter."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from common.events import Category, MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from common.phones import FICTIONAL_MOBILES
from delivery.providers.base import (
    BatchRefused,
    CallError,
    Outcome,
    OutgoingMessage,
    Provider,
    Throttled,
)

LONGEST_BACK_OFF_S = 900.0
# Shorter delays are over before anybody has read of them: a carrier that throttles would flood the bus with them.
# Where the first back-off is shorter still, as in the embedded stack, that is the bound.
TOLD_DELAY_S = 5.0
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
    """How often and how long is tried, times in seconds. The fields are settings of the same names."""

    model_config = ConfigDict(frozen=True)

    lease_s: float
    max_attempts: int
    retry_base_s: float
    replay_after_s: float
    replay_window_s: float


@dataclass(frozen=True, slots=True)
class Share:
    """Whose messages a provider takes: those of `organisations`, or, with `others`, those of all but these."""

    organisations: Sequence[str]
    others: bool


@dataclass(frozen=True, slots=True)
class Order:
    """What a provider takes at once: messages of a format, at most `messages` in at most `calls`, of its share.

    `turns` (lane → the organisation that was served last) is moved on by the claim. `senders`: organisation → its own
    sender.
    """

    message_format: str
    share: Share
    calls: int
    messages: int
    turns: dict[str, str]
    senders: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a provider, as its row has it. `attempts` is each message's count, this one included.

    `parts` is what it takes of the provider's rate. `request_id` is the one that set off all its messages, "" when
    several did.
    """

    key: UUID
    requests: int
    body: bytes
    message_ids: Sequence[int]
    attempts: Sequence[int]
    parts: int
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a request of a call means for one message. `status` is the message's next one.

    `replay`: the call may be repeated to learn more. `given_back`: the attempt does not count. `alone`: it goes in a
    call of its own. `parts` are those that the provider bills, `raw` its own words.
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
    parts: int | None = None
    raw: str | None = None


class OutcomeRow(Protocol):
    """The columns of a message that its events are made from."""

    id: int
    organisation_id: str
    schedule_id: int | None
    group_schedule_id: int | None
    run: int
    version: int
    status: str
    attempts: int
    provider: str | None
    provider_message_id: str | None
    sent_time: datetime | None
    delivered_time: datetime | None
    next_attempt_at: datetime | None
    category: Any
    error: str | None
    request_id: str


def outcome_event(row: OutcomeRow) -> MessageSent | MessageDelivered | MessageDelayed | MessageFailed:
    """The event that tells what became of a message of a schedule: its outcome, or that it waits."""
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
    if row.status == "delivered":
        return MessageDelivered(**common, sent_time=row.sent_time, delivered_time=row.delivered_time)
    if row.status == "retry_wait":
        return MessageDelayed(**common, next_attempt_at=row.next_attempt_at, category=row.category, error=row.error)
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


def refusal(message: Any, provider: Provider) -> Category | None:
    """Why a claimed message must not go out, None when it may."""
    if message.refusal is not None:
        return message.refusal  # type: ignore[no-any-return]
    if message.is_late:
        return "expired"
    if provider.is_vendor and message.phone in FICTIONAL_MOBILES:
        return "invalid_number"
    return None


def outgoing(message: Any, senders: Mapping[str, str]) -> OutgoingMessage:
    """A claimed row as a provider gets it. `senders`: organisation → its own sender."""
    return OutgoingMessage(
        id=message.id,
        phone=message.phone,
        text=message.text,
        format=message.format,
        sender=senders.get(message.organisation_id),
        subject=message.subject,
        media_url=message.media_url,
    )


def read_outcomes(call: Call, outcomes: Sequence[Outcome], policy: Policy) -> list[Result]:
    """An answer, item by item."""
    return [_read_outcome(call, place, outcome, policy) for place, outcome in enumerate(outcomes)]


def _read_outcome(call: Call, place: int, outcome: Outcome, policy: Policy) -> Result:
    message_id, parts, raw = call.message_ids[place], outcome.parts, outcome.raw
    if outcome.status == "accepted":
        given = outcome.provider_message_id
        return Result(message_id, call.key, call.requests, "sent", given, parts=parts, raw=raw)
    if outcome.status == "missing":  # a repetition would be answered with the same words
        return Result(message_id, call.key, call.requests, "unknown", raw=raw)
    category, error = outcome.category or "unknown", outcome.error or "Refused."
    if outcome.retryable:
        return replace(_retry(call, place, category, error, policy), parts=parts, raw=raw)
    return Result(message_id, call.key, call.requests, "failed", None, category, error, parts=parts, raw=raw)


def read_error(call: Call, error: CallError, policy: Policy, away_s: float = 0.0) -> list[Result]:
    """A call that failed as a whole. On a repetition nothing but an answer settles what the first request did.

    `away_s`: how long the provider is left alone now, when there is no other to go to.
    """
    if error.maybe_taken or call.requests > 1:
        return [Result(message_id, call.key, call.requests, "unknown", replay=True) for message_id in call.message_ids]
    if isinstance(error, BatchRefused):
        return _split(call, error)
    told = _TOLD.get(error.category, error.reason)
    if isinstance(error, Throttled):
        pauses = [
            error.retry_after_s + random.uniform(0, max(error.retry_after_s, policy.retry_base_s / 4))
            for _ in call.message_ids
        ]
        return _wait(call, "retry_wait", error.category, told, pauses)
    # Not connected, or a fault of the account: an outage burns no attempts. The next provider takes it at once. Where
    # there is none it waits longer than the breaker: the canary is then another message, and one that always meets
    # the fault does not keep a provider away from all the others.
    pauses = [away_s * random.uniform(1.0, 1.5) for _ in call.message_ids]
    return _wait(call, "retry_wait" if away_s else "queued", error.category, told, pauses)


def _wait(
    call: Call, status: Literal["retry_wait", "queued"], category: Category, told: str, pauses: Sequence[float]
) -> list[Result]:
    return [
        Result(message_id, call.key, call.requests, status, category=category, error=told, delay_s=pause, given_back=1)
        for message_id, pause in zip(call.message_ids, pauses, strict=True)
    ]


def _split(call: Call, error: BatchRefused) -> list[Result]:
    if len(call.message_ids) == 1:
        item, message_id = error.item, call.message_ids[0]
        category, told = item.category or "unknown", item.error or "Refused."
        return [Result(message_id, call.key, call.requests, "failed", None, category, told, raw=item.raw)]
    return [Result(i, call.key, call.requests, "queued", given_back=1, alone=True) for i in call.message_ids]


def _retry(call: Call, place: int, category: Category, told: str, policy: Policy) -> Result:
    """Another attempt after a back-off with full jitter, or the end when there were enough."""
    message_id, attempts = call.message_ids[place], call.attempts[place]
    if attempts >= policy.max_attempts:
        return Result(message_id, call.key, call.requests, "failed", None, category, told)
    delay = random.uniform(0, min(LONGEST_BACK_OFF_S, policy.retry_base_s * 2.0 ** (attempts - 1)))
    return Result(message_id, call.key, call.requests, "retry_wait", category=category, error=told, delay_s=delay)
