"""Every statement on webhook events, and those that find the messages of delivery receipts."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.models import PLAIN_ID, columns, read_rows
from delivery.receipts.rules import (
    EarlierReceiptRow,
    NewEvent,
    ReportedMessage,
    WebhookEventRow,
)

_NEW = Columns(fingerprint="bytea", kind="text", reference="bigint", provider_message_id="text", body="text")
_NAMED = Columns(
    id="bigint",
    provider="text",
    reference="bigint",
    provider_message_id="text",
    received_at="timestamptz",
)
_IDS = Columns(id="bigint")
_MATCHES = Columns(id="bigint", message_id="bigint")
_PAUSES = Columns(id="bigint", pause_s="float8")

# Sorted, so that two webhooks with the same events insert them in the same order.
_ADD = text(
    f"""
    INSERT INTO webhook_events (provider, fingerprint, kind, reference, provider_message_id, body, request_id,
                                traceparent)
    SELECT :provider, n.fingerprint, n.kind, n.reference, n.provider_message_id, CAST(n.body AS jsonb), :request_id,
           :traceparent
    FROM {_NEW.unnest("n")}
    ORDER BY n.fingerprint
    ON CONFLICT (fingerprint, provider) DO NOTHING
    """
)
_CLAIM = text(
    """
    SELECT id, provider, fingerprint, kind, reference, provider_message_id, CAST(body AS text), checks, received_at,
           request_id, traceparent, now()
    FROM webhook_events WHERE due_at <= now() ORDER BY due_at, id LIMIT :batch FOR UPDATE SKIP LOCKED
    """
)
# By our reference, else by the provider's id. A provider from outside the repository may send references without a
# mark, and another system on the same account counts its messages from 1, too. So an event from before our message was
# created is not about it, and neither is one with another provider id. Providers change the spelling of their ids, so
# only an id of the same length counts as another one.
#
# Ids are compared in small letters and without leading zeros, because either side may have lost them. The same spelling
# comes first; without it, the id must fit one message only. Hexadecimal ids are not converted to decimal: a short id
# would then match another message.
#
# Each id is looked up for itself. As a join, PostgreSQL read all messages of the provider for each event while its
# statistics were from a time when no message had a provider id.
_FIND = text(
    f"""
    SELECT n.id, coalesce(
        (SELECT m.id FROM messages m
         WHERE m.id = n.reference AND m.provider = n.provider AND m.created_at <= n.received_at
           AND (length(m.provider_message_id) = length(n.provider_message_id)
                AND lower(m.provider_message_id) <> lower(n.provider_message_id)) IS NOT TRUE),
        (SELECT coalesce(max(found.id) FILTER (WHERE found.is_same),
                         CASE WHEN count(*) = 1 THEN max(found.id) END)
         FROM (SELECT m.id, m.provider_message_id = n.provider_message_id AS is_same
               FROM messages m
               WHERE {PLAIN_ID.format(id="m.provider_message_id")} = {PLAIN_ID.format(id="n.provider_message_id")}
                 AND m.provider = n.provider AND m.provider_message_id IS NOT NULL) found)) AS message_id
    FROM {_NAMED.unnest("n")}
    """
)
_LOCK_MESSAGES = text(
    f"""
    SELECT {columns(ReportedMessage)}
    FROM messages WHERE id = ANY({_IDS.array("id")}) ORDER BY id FOR UPDATE
    """
)
# Read under the messages' locks, so it includes what another transaction has just applied.
_LIST_EARLIER = text(
    f"""
    SELECT message_id, provider, CAST(body AS text), received_at FROM webhook_events
    WHERE message_id = ANY({_IDS.array("id")}) AND kind = 'receipt'
    """
)
_COMPLETE = text(
    f"""
    UPDATE webhook_events e SET due_at = NULL, message_id = n.message_id
    FROM {_MATCHES.unnest("n")} WHERE e.id = n.id
    """
)
_POSTPONE = text(
    f"""
    UPDATE webhook_events e SET checks = e.checks + 1, due_at = now() + make_interval(secs => n.pause_s)
    FROM {_PAUSES.unnest("n")} WHERE e.id = n.id
    """
)


async def add_all_tenants(
    session: AsyncSession, events: Sequence[NewEvent], *, provider: str, request_id: str, traceparent: str | None
) -> None:
    """Add the events of a webhook. An event that is stored already stays as it is."""
    values = {"provider": provider, "request_id": request_id, "traceparent": traceparent}
    await session.execute(_ADD, {**_NEW.bind(events), **values})


async def claim_all_tenants(session: AsyncSession, batch: int) -> list[WebhookEventRow]:
    """Lock the events that are due, the longest due first, and skip those that another transaction has locked."""
    return [WebhookEventRow(*row) for row in await session.execute(_CLAIM, {"batch": batch})]


async def find_messages_all_tenants(session: AsyncSession, events: Sequence[WebhookEventRow]) -> dict[int, int]:
    """Return event id → id of the outbound message that it names, for the events whose message is known."""
    rows = await session.execute(_FIND, _NAMED.bind(events))
    return {row.id: row.message_id for row in rows if row.message_id is not None}


async def lock_messages_all_tenants(session: AsyncSession, ids: Collection[int]) -> list[ReportedMessage]:
    """Lock messages in the order of their ids."""
    return read_rows(ReportedMessage, (await session.execute(_LOCK_MESSAGES, {"id": list(ids)})).all())


async def list_earlier_all_tenants(session: AsyncSession, ids: Collection[int]) -> list[EarlierReceiptRow]:
    """Return the delivery receipts that were applied to these messages before."""
    return [EarlierReceiptRow(*row) for row in await session.execute(_LIST_EARLIER, {"id": list(ids)})]


async def complete_all_tenants(session: AsyncSession, matches: Mapping[int, int | None]) -> None:
    """Complete these events: id → id of their message, or None if they are given up."""
    await session.execute(_COMPLETE, _MATCHES.bind_tuples(matches.items()))


async def postpone_all_tenants(session: AsyncSession, pauses: Mapping[int, float]) -> None:
    """Check these events again later: id → seconds from now."""
    await session.execute(_POSTPONE, _PAUSES.bind_tuples(pauses.items()))
