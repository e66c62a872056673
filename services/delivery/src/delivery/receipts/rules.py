"""What a provider tells, as it is kept, and what it makes of a message: statuses only climb. Pure."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import TypeAdapter

from common.fields import MAX_ID, clean_text
from delivery.providers.base import InboundMessage, ProviderEvent, DeliveryReceipt

Settled = Literal["sent", "delivered", "failed"]

LOOK_FOR_S = 72 * 3600.0
_LONGEST_PAUSE_S = 3600.0
_LONGEST = 300
_LONGEST_TEXT = 10_000
_MOST_PARTS = 255
_FIRST_YEAR = 2000
_NOT_TOLD = datetime(9999, 1, 1, tzinfo=UTC)
_RECEIPT = TypeAdapter(DeliveryReceipt)
_INBOUND = TypeAdapter(InboundMessage)
_REFUSED = "The provider could not deliver the message."


def _writable(told: str, longest: int = _LONGEST) -> str:
    """A provider's words as a row can hold them: no NUL, no half of a surrogate pair, not without end."""
    whole = told.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return clean_text(whole)[:longest]


def _moment(told: datetime) -> datetime:
    """A provider's time in UTC. One that no clock tells (an empty field of .NET is the first day of the year 1) is as
    good as none: one that is to come, for which the moment counts at which it was told."""
    if not _FIRST_YEAR <= told.year < _NOT_TOLD.year:
        return _NOT_TOLD
    return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)


def clean(notice: ProviderEvent) -> ProviderEvent:
    """The notice with every text, number and time in bounds."""
    changes: dict[str, Any] = {}
    for field in fields(notice):
        value = getattr(notice, field.name)
        if isinstance(value, str):
            changes[field.name] = _writable(value, _LONGEST_TEXT if field.name == "text" else _LONGEST)
        elif isinstance(value, tuple | list):
            changes[field.name] = tuple(_writable(url, 2048) for url in value)
        elif isinstance(value, datetime):
            changes[field.name] = _moment(value)
    if notice.reference is not None and not 0 < notice.reference <= MAX_ID:
        changes["reference"] = None
    if isinstance(notice, DeliveryReceipt):
        changes["of_parts"] = min(max(notice.of_parts, 1), _MOST_PARTS)
        changes["part"] = min(max(notice.part, 1), changes["of_parts"])
        if notice.billed_parts is not None and not 0 <= notice.billed_parts <= _MOST_PARTS:
            changes["billed_parts"] = None
    return replace(notice, **changes)


def fingerprint(notice: ProviderEvent) -> bytes:
    """The same for the same notice told again; `id` in whatever length and characters."""
    kind = "receipt" if isinstance(notice, DeliveryReceipt) else "inbound"
    return hashlib.sha256(f"{kind}:{notice.id}".encode("utf-8", "surrogatepass")).digest()


def write(notice: ProviderEvent) -> tuple[Literal["receipt", "inbound"], str]:
    """Kind and JSON of a notice that is clean. Raises ValueError when its fields are not of their types."""
    if isinstance(notice, DeliveryReceipt):
        return "receipt", _RECEIPT.dump_json(notice, warnings="error").decode()
    return "inbound", _INBOUND.dump_json(notice, warnings="error").decode()


def read_receipt(body: str) -> DeliveryReceipt:
    """Raises ValueError when it is none."""
    return _RECEIPT.validate_json(body)


def read_inbound(body: str) -> InboundMessage:
    """Raises ValueError when it is none."""
    return _INBOUND.validate_json(body)


def spellings(provider_message_id: str | None) -> list[str]:
    """An id as a provider may have written it elsewhere: in another case, without leading zeros. Not hexadecimal for
    decimal: that would find another message where ids are short, and our own reference goes along everywhere."""
    if not provider_message_id:
        return []
    short = provider_message_id.lstrip("0")
    return list(dict.fromkeys(s for s in (provider_message_id, short, short.lower(), short.upper()) if s))


def next_look(looks: int, received_at: datetime, now: datetime) -> float | None:
    """Seconds until a notice that found nothing is looked at again: doubling from 1 s to an hour, for three days."""
    if now - received_at > timedelta(seconds=LOOK_FOR_S):
        return None
    return float(min(_LONGEST_PAUSE_S, 2.0 ** min(looks, 20)))


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt, and when it came. A provider's clock may be wrong: nothing happened after it was told."""

    receipt: DeliveryReceipt
    received_at: datetime

    @property
    def at(self) -> datetime:
        return min(self.receipt.occurred_at or self.received_at, self.received_at)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all receipts of a message say together."""

    status: Settled
    first_at: datetime
    delivered_time: datetime | None
    deciding: DeliveryReceipt
    provider_message_id: str | None
    billed_parts: int | None


_RANKS: dict[str, int] = {"sent": 0, "failed": 1, "delivered": 2}


def weigh(told: Sequence[Told]) -> Verdict:
    """Of each part the highest word counts: delivered when all parts are, failed when one failed for good."""
    of_parts: dict[int, Told] = {}
    for one in sorted(told, key=lambda one: (_RANKS[one.receipt.status], one.at)):
        of_parts[one.receipt.part] = one
    best = list(of_parts.values())
    failed = [one for one in best if one.receipt.status == "failed"]
    delivered = [one for one in best if one.receipt.status == "delivered"]
    wanted = max(one.receipt.of_parts for one in told)
    if failed:
        status, deciding = "failed", failed[-1]
    elif len(delivered) >= wanted:
        status, deciding = "delivered", max(delivered, key=lambda one: one.at)
    else:
        status, deciding = "sent", max(best, key=lambda one: (_RANKS[one.receipt.status], one.at))
    return Verdict(
        status=status,  # type: ignore[arg-type]
        first_at=min(one.at for one in told),
        delivered_time=deciding.at if status == "delivered" else None,
        deciding=deciding.receipt,
        provider_message_id=next((o.receipt.provider_message_id for o in told if o.receipt.provider_message_id), None),
        billed_parts=max((o.receipt.billed_parts for o in told if o.receipt.billed_parts is not None), default=None),
    )


def climbs(message: Any, status: Settled) -> bool:
    """Whether a message, as it stands, takes this status from its provider.

    A provider that reports on a message has it, also one that it seemed to refuse and that waits to go again; only a
    failure of that one says nothing new. A failure that came after the message was taken, or whose outcome was
    unknown, is put right by a delivery.
    """
    if message.status in ("sending", "unknown"):
        return True
    if message.status in ("queued", "retry_wait"):
        return status != "failed"
    if message.status == "sent":
        return status != "sent"
    was_taken = message.sent_time is not None or message.failure_category == "outcome_unknown"
    return bool(message.status == "failed" and status == "delivered" and was_taken)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a message is to stand; `is_new`: under a status that it did not have."""

    message_id: int
    is_new: bool
    status: str
    sent_time: datetime | None
    delivered_time: datetime | None
    category: str | None
    error: str | None
    provider_status: str
    provider_message_id: str | None
    billed_parts: int | None


def settle(message: Any, told: Iterable[Told]) -> Settlement:
    """What the receipts make of a message as it stands."""
    verdict = weigh(list(told))
    is_new = climbs(message, verdict.status)
    has_failed = verdict.status == "failed"
    return Settlement(
        message_id=message.id,
        is_new=is_new,
        status=verdict.status if is_new else message.status,
        sent_time=(message.sent_time or verdict.first_at) if is_new else message.sent_time,
        delivered_time=verdict.delivered_time if is_new else message.delivered_time,
        failure_category=(verdict.deciding.failure_category or "unknown" if has_failed else None) if is_new else message.failure_category,
        error=(verdict.deciding.error or _REFUSED if has_failed else None) if is_new else message.error,
        provider_status=verdict.deciding.raw,
        provider_message_id=verdict.provider_message_id,
        billed_parts=verdict.billed_parts,
    )
