"""Use cases of receipts: keep what providers tell, find whose it is, let it count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from common.context import request_id
from delivery.messages import service as messages
from delivery.providers.base import InboundMessage, ProviderEvent, DeliveryReceipt
from delivery.receipts import repository
from delivery.receipts.rules import (
    Told,
    clean,
    fingerprint,
    next_look,
    read_inbound,
    read_receipt,
    settle,
    write,
)
from delivery.inbound import service as replies

log = structlog.get_logger()

BATCH = 500
_FORGOTTEN = 5000


def describe(notice: ProviderEvent) -> dict[str, Any]:
    """A notice as it is kept. Raises ValueError, TypeError or AttributeError for what no provider may make."""
    cleaned = clean(notice)
    kind, body = write(cleaned)
    names = cleaned.provider_message_id if isinstance(cleaned, DeliveryReceipt) else cleaned.in_reply_to
    return {
        "fingerprint": fingerprint(notice),
        "kind": kind,
        "reference": cleaned.reference,
        "provider_message_id": names,  # the message that it is about: one of ours, also for a reply
        "body": body,
    }


async def keep_notices(session: AsyncSession, provider: str, described: Sequence[dict[str, Any]]) -> None:
    """Keeps what a webhook told, once each however often it is told; `apply_notices` does the rest."""
    if described:
        await repository.keep(session, provider, request_id(), described)


@dataclass(frozen=True, slots=True)
class _Due:
    """A notice that is looked at, and the message that it names, where that is known."""

    row: Row[Any]
    notice: ProviderEvent
    message_id: int | None


async def apply_notices(session: AsyncSession, policy: replies.ReplyPolicy, most: int = BATCH) -> int:
    """Looks at the notices that are due, `most` at most, and returns how many. What finds nothing waits on."""
    rows = await repository.claim_all_tenants(session, most)
    if not rows:
        return 0
    found = await repository.find_messages_all_tenants(session, rows)
    due = [_Due(row, notice, found.get(row.id)) for row in rows if (notice := _read(row)) is not None]
    done: dict[int, int | None] = dict.fromkeys((row.id for row in rows), None)
    told = {one.row.id: one.message_id for one in due if isinstance(one.notice, DeliveryReceipt) and one.message_id}
    await _apply_receipts(session, [one for one in due if one.row.id in told])
    taken = await replies.take_in(session, [_reply(one) for one in due if isinstance(one.notice, InboundMessage)], policy)
    done |= told | taken
    unmatched = [one.row for one in due if done[one.row.id] is None]
    pauses = {row.id: next_look(row.looks, row.received_at, row.looked_at) for row in unmatched}
    later = {notice_id: pause for notice_id, pause in pauses.items() if pause is not None}
    if lost := len(pauses) - len(later):
        log.warning("notices of providers found no message", notices=lost)
    if later:
        await repository.postpone(session, later)
    await repository.done(session, {notice_id: of for notice_id, of in done.items() if notice_id not in later})
    return len(rows)


async def set_aside(session: AsyncSession) -> None:
    """The notice that has been due for longest cannot be applied: it is looked at again later, as one that finds
    nothing."""
    for row in await repository.claim_all_tenants(session, 1):
        pause = next_look(row.looks, row.received_at, row.looked_at)
        log.error("a notice cannot be applied", notice=row.id, provider=row.provider, looks=row.looks)
        if pause is not None:
            await repository.postpone(session, {row.id: pause})
        else:
            await repository.done(session, {row.id: None})


def _read(row: Row[Any]) -> ProviderEvent | None:
    try:
        return read_receipt(row.body) if row.kind == "receipt" else read_inbound(row.body)
    except ValueError:  # of another version of this program
        log.error("a notice cannot be read", notice=row.id, provider=row.provider)
        return None


def _reply(one: _Due) -> replies.Reply:
    assert isinstance(one.notice, InboundMessage)
    row = one.row
    return replies.Reply(row.id, row.provider, one.notice, one.message_id, row.received_at, row.request_id)


async def _apply_receipts(session: AsyncSession, due: Sequence[_Due]) -> None:
    """Receipts that found their message. All that a message had before counts along: it may come in any order."""
    if not due:
        return
    told: dict[int, list[Told]] = {}
    for one in due:
        assert isinstance(one.notice, DeliveryReceipt)
        assert one.message_id is not None
        told.setdefault(one.message_id, []).append(Told(one.notice, one.row.received_at))
    locked = await repository.lock_messages_all_tenants(session, told)
    providers = {message.id: message.provider for message in locked}
    for row in await repository.history_all_tenants(session, told):
        before = _read(row) if row.provider == providers.get(row.message_id) else None
        if isinstance(before, DeliveryReceipt):
            told[row.message_id].append(Told(before, row.received_at))
    rows = await repository.settle(session, [settle(message, told[message.id]) for message in locked])
    changed = [row for row in rows if row.is_new]
    open_calls = {m.id: m.call_key for m in locked if m.status in ("sending", "unknown")}
    await messages.tell_settled(session, changed, {open_calls[row.id] for row in changed if row.id in open_calls})


async def forget_notices(session: AsyncSession) -> bool:
    """Removes notices that are a month old. True when there may be more."""
    return await repository.forget_all_tenants(session, _FORGOTTEN) == _FORGOTTEN
