"""Stored webhook events, and what delivery receipts mean for a message: a status never moves backwards. Pure."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import TypeAdapter

from common.events import FailureCategory
from common.fields import MAX_ID, clean_text
from delivery.messages.rules import MessageUpdate, describe_provider_failure
from delivery.models import IN_SUBMISSION, WAITING, MessageStatus
from delivery.providers.base import DeliveryReceipt, InboundMessage, ProviderEvent

EventKind = Literal["receipt", "inbound"]

CHECK_FOR_S = 72 * 3600.0
_MAX_PAUSE_S = 3600.0
_MAX_FIELD = 300  # characters
_MAX_TEXT = 10_000
_MAX_URL = 2048
_MAX_PARTS = 255
_MIN_YEAR = 2000
_NO_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_RECEIPT = TypeAdapter(DeliveryReceipt)
_INBOUND = TypeAdapter(InboundMessage)
_RANKS: dict[str, int] = {MessageStatus.SENT: 0, MessageStatus.FAILED: 1, MessageStatus.DELIVERED: 2}


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A webhook event to store. `reference` and `provider_message_id` name one of our outbound messages.

    For an inbound message they name the message that it answers.
    """

    fingerprint: bytes
    kind: EventKind
    reference: int | None
    provider_message_id: str | None
    body: str


class WebhookEventRow(NamedTuple):
    """A stored webhook event that is due.

    `checks` is the number of earlier checks that matched no message, `checked_at` the time of this one.
    """

    id: int
    provider: str
    fingerprint: bytes
    kind: EventKind
    reference: int | None
    provider_message_id: str | None
    body: str
    checks: int
    received_at: datetime
    request_id: str
    traceparent: str | None
    checked_at: datetime


class EarlierReceiptRow(NamedTuple):
    """A stored delivery receipt that was applied to a message before."""

    message_id: int
    provider: str
    body: str
    received_at: datetime


class ReportedMessage(NamedTuple):
    """The columns of a message that a delivery receipt may change."""

    id: int
    provider: str | None
    status: MessageStatus
    sent_time: datetime | None
    delivered_time: datetime | None
    failure_category: FailureCategory | None
    error: str | None
    submission_key: UUID | None
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class ReceivedReceipt:
    """A delivery receipt with the time at which it arrived."""

    receipt: DeliveryReceipt
    received_at: datetime

    @property
    def at(self) -> datetime:
        """Return the time of the reported event, but not after the arrival: a provider's clock may be fast."""
        return min(self.receipt.occurred_at or self.received_at, self.received_at)


@dataclass(frozen=True, slots=True)
class ReceiptSummary:
    """What all delivery receipts of a message say together. `deciding` is the receipt that decides the status."""

    status: MessageStatus
    first_at: datetime
    delivered_time: datetime | None
    deciding: DeliveryReceipt
    provider_message_id: str | None
    billed_parts: int | None


def make_event(event: ProviderEvent) -> NewEvent:
    """Return a provider's event as it is stored.

    Raises ValueError, TypeError or AttributeError when a field does not have its declared type.
    """
    bounded = bound_fields(event)
    if isinstance(bounded, DeliveryReceipt):
        kind: EventKind = "receipt"
        body, about = _RECEIPT.dump_json(bounded, warnings="error"), bounded.provider_message_id
    else:
        kind = "inbound"
        body, about = _INBOUND.dump_json(bounded, warnings="error"), bounded.in_reply_to
    return NewEvent(
        fingerprint=fingerprint(event),
        kind=kind,
        reference=bounded.reference,
        provider_message_id=about,
        body=body.decode(),
    )


def bound_fields(event: ProviderEvent) -> ProviderEvent:
    """Return the event with every text, number and time within the bounds of our columns."""
    changes: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, str):
            changes[field.name] = _storable(value, _MAX_TEXT if field.name == "text" else _MAX_FIELD)
        elif isinstance(value, tuple | list):
            changes[field.name] = tuple(_storable(url, _MAX_URL) for url in value)
        elif isinstance(value, datetime):
            changes[field.name] = _bound_time(value)
    if event.reference is not None and not 0 < event.reference <= MAX_ID:
        changes["reference"] = None
    if isinstance(event, DeliveryReceipt):
        changes["of_parts"] = min(max(event.of_parts, 1), _MAX_PARTS)
        changes["part"] = min(max(event.part, 1), changes["of_parts"])
        if event.billed_parts is not None and not 0 <= event.billed_parts <= _MAX_PARTS:
            changes["billed_parts"] = None
    return replace(event, **changes)


def _storable(text: str, max_length: int) -> str:
    """Return a text without null characters and lone surrogates, cut to a length."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return clean_text(whole)[:max_length]


def _bound_time(moment: datetime) -> datetime:
    """Return a provider's time in UTC. An implausible time becomes a time to come, so the time of arrival counts.

    An empty time field of .NET, for example, is the first day of the year 1.
    """
    if not _MIN_YEAR <= moment.year < _NO_TIME.year:
        return _NO_TIME
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def fingerprint(event: ProviderEvent) -> bytes:
    """Return the hash of an event's kind and id. A repeated event has the same fingerprint."""
    kind = "receipt" if isinstance(event, DeliveryReceipt) else "inbound"
    return hashlib.sha256(f"{kind}:{event.id}".encode("utf-8", "surrogatepass")).digest()


def parse_event(kind: EventKind, body: str) -> ProviderEvent:
    """Parse a stored event. Raises ValueError if another version of the program stored it in another form."""
    return _RECEIPT.validate_json(body) if kind == "receipt" else _INBOUND.validate_json(body)


def next_check_s(event: WebhookEventRow) -> float | None:
    """Return the seconds until an event that matched no message is checked again, or None after three days.

    The pause doubles from one second to an hour.
    """
    if event.checked_at - event.received_at > timedelta(seconds=CHECK_FOR_S):
        return None
    return float(min(_MAX_PAUSE_S, 2.0 ** min(event.checks, 20)))


def summarise(receipts: Sequence[ReceivedReceipt]) -> ReceiptSummary:
    """Return what all receipts of a message say: delivered when all parts are, failed when one part failed.

    Of each part the highest status counts, in whatever order the receipts arrived.
    """
    by_part: dict[int, ReceivedReceipt] = {}
    for one in sorted(receipts, key=_rank):
        by_part[one.receipt.part] = one
    parts = list(by_part.values())
    failed = [one for one in parts if one.receipt.status == "failed"]
    delivered = [one for one in parts if one.receipt.status == "delivered"]
    if failed:
        status, deciding = MessageStatus.FAILED, failed[-1]
    elif len(delivered) >= max(one.receipt.of_parts for one in receipts):
        status, deciding = MessageStatus.DELIVERED, max(delivered, key=lambda one: one.at)
    else:
        status, deciding = MessageStatus.SENT, max(parts, key=_rank)
    return ReceiptSummary(
        status=status,
        first_at=min(one.at for one in receipts),
        delivered_time=deciding.at if status == MessageStatus.DELIVERED else None,
        deciding=deciding.receipt,
        provider_message_id=next(filter(None, (one.receipt.provider_message_id for one in receipts)), None),
        billed_parts=max((p for one in receipts if (p := one.receipt.billed_parts) is not None), default=None),
    )


def _rank(received: ReceivedReceipt) -> tuple[int, datetime]:
    return _RANKS[received.receipt.status], received.at


def moves_forward(message: ReportedMessage, status: MessageStatus) -> bool:
    """Return whether a reported status replaces the status of a message.

    A provider that reports on a message has the message. That holds for a message that waits for another attempt, too,
    but a failure there says nothing new. A message that failed after a provider may have accepted it can still be
    delivered.
    """
    if message.status in IN_SUBMISSION:
        return True
    if message.status in WAITING:
        return status != MessageStatus.FAILED
    if message.status == MessageStatus.SENT:
        return status != MessageStatus.SENT
    maybe_accepted = message.sent_time is not None or message.failure_category == "outcome_unknown"
    return message.status == MessageStatus.FAILED and status == MessageStatus.DELIVERED and maybe_accepted


def update_message(message: ReportedMessage, receipts: Iterable[ReceivedReceipt]) -> MessageUpdate:
    """Return the new values of a message after all its receipts."""
    summary = summarise(list(receipts))
    deciding = summary.deciding
    is_new = moves_forward(message, summary.status)
    has_failed = summary.status == MessageStatus.FAILED
    category: FailureCategory | None = (deciding.failure_category or "unknown") if has_failed else None
    error = describe_provider_failure(category, deciding.error) if category is not None else None
    return MessageUpdate(
        message_id=message.id,
        is_new_status=is_new,
        status=summary.status if is_new else message.status,
        sent_time=(message.sent_time or summary.first_at) if is_new else message.sent_time,
        delivered_time=summary.delivered_time if is_new else message.delivered_time,
        failure_category=category if is_new else message.failure_category,
        error=error if is_new else message.error,
        provider_status=deciding.raw,
        provider_message_id=summary.provider_message_id,
        billed_parts=summary.billed_parts,
    )
