"""Use cases of receipts: store what providers report, match it to messages, and apply it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common import tracing
from common.context import request_id
from common.database import after_commit, wake_after_commit
from delivery import metrics
from delivery.inbound import service as inbound
from delivery.inbound.rules import InboundPolicy, ReceivedMessage
from delivery.messages import service as messages
from delivery.models import IN_SUBMISSION, WEBHOOK_EVENTS
from delivery.providers.base import DeliveryReceipt, InboundMessage, ProviderEvent
from delivery.receipts import repository
from delivery.receipts.rules import (
    NewEvent,
    ReceivedReceipt,
    WebhookEventRow,
    next_check_s,
    parse_event,
    update_message,
)
from delivery.sending import service as sending

log = structlog.get_logger()

BATCH = 500
_DELETE_BATCH = 5000


@dataclass(frozen=True, slots=True)
class _DueEvent:
    """A webhook event that is due, and the outbound message that it names, if that is known."""

    row: WebhookEventRow
    event: ProviderEvent
    message_id: int | None


async def store_events(session: AsyncSession, provider: str, events: Sequence[NewEvent]) -> None:
    """Store what a webhook reports, each event once. `apply_webhook_events` applies it later."""
    if events:
        await repository.add_all_tenants(
            session, events, provider=provider, request_id=request_id(), traceparent=tracing.current()
        )
        wake_after_commit(session, WEBHOOK_EVENTS)


async def apply_webhook_events(session: AsyncSession, policy: InboundPolicy, max_events: int = BATCH) -> int:
    """Apply the webhook events that are due, at most `max_events`, and return how many there were.

    An event that matches no message is checked again later.
    """
    rows = await repository.claim_all_tenants(session, max_events)
    if not rows:
        return 0
    found = await repository.find_messages_all_tenants(session, rows)
    due = [_DueEvent(row, event, found.get(row.id)) for row in rows if (event := _parse(row)) is not None]
    receipts = [one for one in due if isinstance(one.event, DeliveryReceipt) and one.message_id is not None]
    await _apply_receipts(session, receipts)
    received = [_received(one.row, one.event, one.message_id) for one in due if isinstance(one.event, InboundMessage)]
    matches: dict[int, int | None] = {one.row.id: one.message_id for one in receipts}
    matches |= await inbound.add_inbound_messages(session, received, policy)
    await _finish(session, rows, due, matches)
    return len(rows)


async def _finish(
    session: AsyncSession, rows: Sequence[WebhookEventRow], due: Sequence[_DueEvent], matches: dict[int, int | None]
) -> None:
    """Postpone the events that matched no message, and complete the others and those that cannot be parsed."""
    pauses = {one.row.id: next_check_s(one.row) for one in due if one.row.id not in matches}
    postponed = {event_id: pause for event_id, pause in pauses.items() if pause is not None}
    if given_up := len(pauses) - len(postponed):
        log.warning("webhook events matched no message", count=given_up)
    if postponed:
        await repository.postpone_all_tenants(session, postponed)
    await repository.complete_all_tenants(
        session, {row.id: matches.get(row.id) for row in rows if row.id not in postponed}
    )


async def postpone_first(session: AsyncSession) -> None:
    """Postpone the event that has been due for longest, because applying it failed."""
    for row in await repository.claim_all_tenants(session, 1):
        pause = next_check_s(row)
        log.error("webhook event not applied", event_id=row.id, provider=row.provider, checks=row.checks)
        if pause is not None:
            await repository.postpone_all_tenants(session, {row.id: pause})
        else:
            await repository.complete_all_tenants(session, {row.id: None})


def _parse(row: WebhookEventRow) -> ProviderEvent | None:
    try:
        return parse_event(row.kind, row.body)
    except ValueError:  # another version of this program stored it
        log.error("webhook event unreadable", event_id=row.id, provider=row.provider)
        return None


def _received(row: WebhookEventRow, message: InboundMessage, answered_id: int | None) -> ReceivedMessage:
    return ReceivedMessage(
        event_id=row.id,
        provider=row.provider,
        fingerprint=row.fingerprint,
        message=message,
        answered_id=answered_id,
        arrived_at=row.received_at,
        request_id=row.request_id,
        traceparent=row.traceparent,
    )


async def _apply_receipts(session: AsyncSession, due: Sequence[_DueEvent]) -> None:
    """Apply delivery receipts to their messages.

    Receipts arrive in any order, so the earlier receipts of a message are read again and count, too.
    """
    receipts: dict[int, list[ReceivedReceipt]] = {}
    for one in due:
        if isinstance(one.event, DeliveryReceipt) and one.message_id is not None:
            receipts.setdefault(one.message_id, []).append(ReceivedReceipt(one.event, one.row.received_at))
    if not receipts:
        return
    locked = await repository.lock_messages_all_tenants(session, receipts)
    providers = {message.id: message.provider for message in locked}
    sent_times = {message.id: message.sent_time for message in locked}
    delays = [
        (one.row.provider, (one.row.received_at - sent_time).total_seconds())
        for one in due
        if one.message_id is not None and (sent_time := sent_times.get(one.message_id)) is not None
    ]
    after_commit(session, partial(metrics.count_receipts, delays))
    after_commit(session, partial(_trace, due, {message.id: message.traceparent for message in locked}))
    for row in await repository.list_earlier_all_tenants(session, receipts):
        earlier = _parse_earlier(row.body) if row.provider == providers.get(row.message_id) else None
        if earlier is not None:
            receipts[row.message_id].append(ReceivedReceipt(earlier, row.received_at))
    changed = await messages.apply_receipts(
        session, [update_message(message, receipts[message.id]) for message in locked]
    )
    after_commit(
        session, partial(metrics.count_acceptances, [row for row in changed if sent_times.get(row.id) is None])
    )
    changed_ids = {row.id for row in changed}
    submission_keys = {
        message.submission_key
        for message in locked
        if message.id in changed_ids and message.status in IN_SUBMISSION and message.submission_key is not None
    }
    await sending.remove_resolved(session, submission_keys)


def _trace(due: Sequence[_DueEvent], traceparents: Mapping[int, str | None]) -> None:
    """Add each receipt, from its arrival on, to the trace of its message. It has a link to the webhook's trace."""
    for one in due:
        if one.message_id is not None:
            tracing.record_span(
                "apply receipt",
                traceparents.get(one.message_id),
                {"provider": one.row.provider},
                since=one.row.received_at,
                link=one.row.traceparent,
            )


def _parse_earlier(body: str) -> DeliveryReceipt | None:
    try:
        event = parse_event("receipt", body)
    except ValueError:
        return None
    return event if isinstance(event, DeliveryReceipt) else None
