"""Every statement on inbound messages, and those that find the outbound messages that they answer."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.inbound.rules import (
    EarlierMessage,
    OwnedMessage,
    Owner,
    ReceivedMessage,
    StoredMessage,
    UnmatchedChoice,
    UnmatchedCount,
    UnmatchedMessage,
)
from delivery.models import columns, read_rows
from delivery.providers.base import Keyword

# An inbound message matches outbound messages that were created in this time before its webhook and after it. The time
# after it is that in which a webhook event is checked again.
_DAYS_BEFORE, _DAYS_AFTER = 90, 3

_ANSWERING = Columns(event_id="bigint", answered_id="bigint", phone="text")
_ARRIVED = Columns(event_id="bigint", phone="text", arrived_at="timestamptz")
_NAMES = Columns(fingerprint="bytea", provider="text")
_KEYS = Columns(organisation_id="text", phone="text", keyword="text")
_NEW = Columns(
    id="bigint",
    organisation_id="text",
    phone="text",
    to_number="text",
    text="text",
    received_at="timestamptz",
    provider="text",
    provider_message_id="text",
    contact_id="bigint",
    schedule_id="bigint",
    keyword="text",
    media_urls="text",
    fingerprint="bytea",
)
_OWNED = Columns(id="bigint", organisation_id="text", contact_id="bigint", schedule_id="bigint", keyword="text")

_EXPRESSIONS = {"media_urls": "ARRAY(SELECT jsonb_array_elements_text(CAST(n.media_urls AS jsonb)))"}

# The phone must match, too, because another system on the account may use references like ours.
_FIND_OWNERS = text(
    f"""
    SELECT n.event_id, m.organisation_id, m.contact_id, m.schedule_id
    FROM {_ANSWERING.unnest("n")} JOIN messages m ON m.id = n.answered_id AND m.phone = n.phone
    """
)
# Whichever provider sent the message: a number may be connected to several providers, or have moved to another one.
_LIST_EARLIER = text(
    f"""
    SELECT n.event_id, m.provider, m.organisation_id, m.sender_id, m.contact_id, m.schedule_id
    FROM {_ARRIVED.unnest("n")}
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (o.organisation_id, o.provider, o.sender_id)
               o.id, o.provider, o.organisation_id, o.sender_id, o.contact_id, o.schedule_id, o.created_at
        FROM messages o
        WHERE o.phone = n.phone AND o.provider IS NOT NULL AND o.auto_reply_to IS NULL
          AND o.created_at > n.arrived_at - make_interval(days => :days_before)
          AND o.created_at < n.arrived_at + make_interval(days => :days_after)
        ORDER BY o.organisation_id, o.provider, o.sender_id, o.created_at DESC, o.id DESC
    ) m ORDER BY m.created_at DESC, m.id DESC
    """
)
# In the order of the ids, so that two transactions lock the same rows in the same order.
_LOCK_STORED = text(
    f"""
    SELECT {columns(StoredMessage, "i")} FROM inbound_messages i
    WHERE i.id = ANY(ARRAY(
        SELECT s.id FROM {_NAMES.unnest("n")}
        JOIN inbound_messages s ON s.fingerprint = n.fingerprint AND s.provider = n.provider))
    ORDER BY i.id FOR UPDATE
    """
)
_SET_OWNERS = text(
    f"""
    UPDATE inbound_messages i SET organisation_id = n.organisation_id, contact_id = n.contact_id,
                                  schedule_id = n.schedule_id, keyword = n.keyword
    FROM {_OWNED.unnest("n")} WHERE i.id = n.id
    """
)
_CHOSEN = """
    organisation_id IS NULL AND id > :after AND (CAST(:ids AS bigint[]) IS NULL OR id = ANY(:ids))
    AND (CAST(:to AS text) IS NULL OR lower(to_number) = lower(:to))
    AND (CAST(:phone AS text) IS NULL OR phone = :phone) AND (NOT :only_stop OR keyword = 'stop')
"""
_LIST_UNMATCHED = text(
    f"SELECT {columns(UnmatchedMessage)} FROM inbound_messages WHERE {_CHOSEN} ORDER BY id DESC LIMIT :batch"
)
_LOCK_UNMATCHED = text(
    f"SELECT {columns(UnmatchedMessage)} FROM inbound_messages WHERE {_CHOSEN} ORDER BY id LIMIT :batch FOR UPDATE"
)
_COUNT_UNMATCHED = text(
    f"SELECT count(*), count(*) FILTER (WHERE keyword = 'stop') FROM inbound_messages WHERE {_CHOSEN}"
)
_NEXT_IDS = text("SELECT nextval('messages_id_seq') FROM generate_series(1, :wanted)")
_ADD = text(
    f"""
    INSERT INTO inbound_messages ({", ".join(_NEW.names)})
    SELECT {", ".join(_EXPRESSIONS.get(name, f"n.{name}") for name in _NEW.names)}
    FROM {_NEW.unnest("n")}
    """
)
# Scalar subqueries: PostgreSQL may plan EXISTS as a hash of all auto-replies.
_REPLIED_TODAY = text(
    f"""
    SELECT n.organisation_id, n.phone, n.keyword
    FROM {_KEYS.unnest("n")}
    WHERE (SELECT true FROM messages m
           WHERE m.phone = n.phone AND m.organisation_id = n.organisation_id
             AND m.created_at > now() - interval '1 day' AND m.auto_reply_to IS NOT NULL
             AND (SELECT i.keyword FROM inbound_messages i WHERE i.id = m.auto_reply_to) = n.keyword
           LIMIT 1)
    """
)


async def find_owners(session: AsyncSession, messages: Collection[ReceivedMessage]) -> dict[int, Owner]:
    """Return event id → owner of the outbound message that the inbound message answers, where it names one."""
    rows = await session.execute(_FIND_OWNERS, _ANSWERING.bind(messages))
    return {row.event_id: Owner(row.organisation_id, row.contact_id, row.schedule_id) for row in rows}


async def list_earlier(session: AsyncSession, messages: Collection[ReceivedMessage]) -> dict[int, list[EarlierMessage]]:
    """Return event id → the newest outbound messages to the phone by organisation, provider and sender ID.

    The newest one is the first.
    """
    found: dict[int, list[EarlierMessage]] = {}
    values = {**_ARRIVED.bind(messages), "days_before": _DAYS_BEFORE, "days_after": _DAYS_AFTER}
    for event_id, *row in await session.execute(_LIST_EARLIER, values):
        found.setdefault(event_id, []).append(EarlierMessage(*row))
    return found


async def lock_stored(session: AsyncSession, messages: Collection[ReceivedMessage]) -> list[StoredMessage]:
    """Lock the rows of those messages that are stored already, and return them in the order of their ids."""
    return read_rows(StoredMessage, await session.execute(_LOCK_STORED, _NAMES.bind(messages)))


async def next_ids(session: AsyncSession, wanted: int) -> list[int]:
    """Return ids for inbound messages. Messages of both directions share one sequence."""
    return list((await session.scalars(_NEXT_IDS, {"wanted": wanted})).all())


async def add(session: AsyncSession, messages: Iterable[OwnedMessage]) -> None:
    """Add inbound messages of organisations."""
    rows = [
        _values(one.id, one.received, one.keyword, owner=one.owner, text=one.text, media_urls=one.media_urls)
        for one in messages
    ]
    if rows:
        await session.execute(_ADD, _NEW.bind_tuples(rows))


async def add_unmatched(session: AsyncSession, messages: Iterable[tuple[int, ReceivedMessage, Keyword | None]]) -> None:
    """Add inbound messages that match no organisation: the id, the message, and the keyword without any configs."""
    rows = [
        _values(
            message_id,
            received,
            keyword,
            owner=None,
            text=received.message.text,
            media_urls=received.message.media_urls,
        )
        for message_id, received, keyword in messages
    ]
    if rows:
        await session.execute(_ADD, _NEW.bind_tuples(rows))


def _values(
    message_id: int,
    received: ReceivedMessage,
    keyword: Keyword | None,
    *,
    owner: Owner | None,
    text: str,
    media_urls: Sequence[str],
) -> tuple[Any, ...]:
    """Return the values of a row, in the order of its columns."""
    return (
        message_id,
        owner and owner.organisation_id,
        received.phone,
        received.to,
        text,
        received.received_at,
        received.provider,
        received.message.provider_message_id,
        owner and owner.contact_id,
        owner and owner.schedule_id,
        keyword,
        to_json(media_urls).decode(),
        received.fingerprint,
    )


async def set_owners(session: AsyncSession, messages: Iterable[OwnedMessage]) -> None:
    """Set the organisations of stored messages that matched none before."""
    rows = [
        (one.id, one.owner.organisation_id, one.owner.contact_id, one.owner.schedule_id, one.keyword)
        for one in messages
    ]
    if rows:
        await session.execute(_SET_OWNERS, _OWNED.bind_tuples(rows))


async def list_unmatched_all_tenants(
    session: AsyncSession, choice: UnmatchedChoice, batch: int
) -> list[UnmatchedMessage]:
    """Return at most `batch` inbound messages that match no organisation, the newest first."""
    rows = await session.execute(_LIST_UNMATCHED, {**choice._asdict(), "after": 0, "batch": batch})
    return read_rows(UnmatchedMessage, rows)


async def lock_unmatched_all_tenants(
    session: AsyncSession, choice: UnmatchedChoice, after: int, batch: int
) -> list[UnmatchedMessage]:
    """Lock at most `batch` inbound messages that match no organisation, in the order of their ids, after an id."""
    rows = await session.execute(_LOCK_UNMATCHED, {**choice._asdict(), "after": after, "batch": batch})
    return read_rows(UnmatchedMessage, rows)


async def count_unmatched_all_tenants(session: AsyncSession, choice: UnmatchedChoice) -> UnmatchedCount:
    """Return the number of inbound messages that match no organisation, and of those that say STOP."""
    row = (await session.execute(_COUNT_UNMATCHED, {**choice._asdict(), "after": 0})).one()
    return UnmatchedCount(*row)


async def find_replied_today(
    session: AsyncSession, keys: Collection[tuple[str, str, str]]
) -> set[tuple[str, str, str]]:
    """Return those of the (organisation, phone, keyword) that got an auto-reply within the last 24 hours."""
    rows = await session.execute(_REPLIED_TODAY, _KEYS.bind_tuples(keys))
    return {(row.organisation_id, row.phone, row.keyword) for row in rows}
