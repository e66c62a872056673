"""Every statement on inbound messages, and those that find the outbound messages that they answer."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Sequence

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.inbound.rules import EarlierMessage, OwnedMessage, Owner, ReceivedMessage

_MEMORY_DAYS = 90

_ANSWERING = Columns(event_id="bigint", answered_id="bigint", phone="text")
_SENDERS = Columns(phone="text", provider="text")
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
)

# The phone must match, too, because another system on the account may use references like ours.
_FIND_OWNERS = text(
    f"""
    SELECT n.event_id, m.organisation_id, m.contact_id, m.schedule_id
    FROM {_ANSWERING.unnest("n")} JOIN messages m ON m.id = n.answered_id AND m.phone = n.phone
    """
)
_LIST_EARLIER = text(
    f"""
    SELECT n.phone, n.provider, m.organisation_id, m.sender_id, m.contact_id, m.schedule_id
    FROM (SELECT DISTINCT * FROM {_SENDERS.unnest("u")}) n
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (o.organisation_id, o.sender_id)
               o.id, o.organisation_id, o.sender_id, o.contact_id, o.schedule_id, o.created_at
        FROM messages o
        WHERE o.phone = n.phone AND o.provider = n.provider AND o.auto_reply_to IS NULL
          AND o.created_at > now() - make_interval(days => :memory_days)
        ORDER BY o.organisation_id, o.sender_id, o.created_at DESC, o.id DESC
    ) m ORDER BY m.created_at DESC, m.id DESC
    """
)
_NEXT_IDS = text("SELECT nextval('messages_id_seq') FROM generate_series(1, :wanted)")
_ADD = text(
    f"""
    INSERT INTO inbound_messages ({", ".join(_NEW.names)})
    SELECT {", ".join(f"n.{name}" for name in _NEW.names if name != "media_urls")},
           ARRAY(SELECT jsonb_array_elements_text(CAST(n.media_urls AS jsonb)))
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


async def list_earlier(
    session: AsyncSession, messages: Collection[ReceivedMessage]
) -> dict[tuple[str, str], list[EarlierMessage]]:
    """Return (phone, provider) → the newest outbound messages by organisation and sender ID, the newest first."""
    found: dict[tuple[str, str], list[EarlierMessage]] = {}
    for row in await session.execute(_LIST_EARLIER, {**_SENDERS.bind(messages), "memory_days": _MEMORY_DAYS}):
        found.setdefault((row.phone, row.provider), []).append(EarlierMessage(*row))
    return found


async def next_ids(session: AsyncSession, wanted: int) -> list[int]:
    """Return ids for inbound messages. Messages of both directions share one sequence."""
    return list((await session.scalars(_NEXT_IDS, {"wanted": wanted})).all())


async def add(session: AsyncSession, messages: Sequence[OwnedMessage]) -> None:
    """Add inbound messages."""
    await session.execute(
        _ADD,
        _NEW.bind_tuples(
            (
                one.id,
                one.owner.organisation_id,
                one.received.phone,
                one.received.to,
                one.received.message.text,
                one.received.received_at,
                one.received.provider,
                one.received.message.provider_message_id,
                one.owner.contact_id,
                one.owner.schedule_id,
                one.keyword,
                to_json(one.received.message.media_urls).decode(),
            )
            for one in messages
        ),
    )


async def find_replied_today(
    session: AsyncSession, keys: Collection[tuple[str, str, str]]
) -> set[tuple[str, str, str]]:
    """Return those of the (organisation, phone, keyword) that got an auto-reply within the last 24 hours."""
    rows = await session.execute(_REPLIED_TODAY, _KEYS.bind_tuples(keys))
    return {(row.organisation_id, row.phone, row.keyword) for row in rows}
