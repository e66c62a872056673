"""Every statement on messages that come in, and on our answers to them."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from delivery.inbound.rules import KeptReply, Owner, Reply

_MEMORY_DAYS = 90
_ANSWER_DEADLINE_S = 3600.0  # a confirmation that comes later puzzles

# Only a message to that phone can be answered from there: another system's references may be like ours.
_ANSWERED = text(
    """
    SELECT n.notice_id, m.organisation_id, m.contact_id, m.schedule_id
    FROM unnest(CAST(:notices AS bigint[]), CAST(:ids AS bigint[]), CAST(:phones AS text[])) AS n (notice_id, id, phone)
    JOIN messages m ON m.id = n.id AND m.phone = n.phone
    """
)
_CANDIDATES = text(
    """
    SELECT n.phone, n.provider, m.organisation_id, m.sender, m.contact_id, m.schedule_id, m.created_at
    FROM (SELECT DISTINCT * FROM unnest(CAST(:phones AS text[]), CAST(:providers AS text[])) AS u (phone, provider)) n
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (o.organisation_id, o.sender)
               o.id, o.organisation_id, o.sender, o.contact_id, o.schedule_id, o.created_at
        FROM messages o
        WHERE o.phone = n.phone AND o.provider = n.provider AND o.answers IS NULL
          AND o.created_at > now() - make_interval(days => :memory_days)
        ORDER BY o.organisation_id, o.sender, o.created_at DESC, o.id DESC
    ) m ORDER BY m.created_at DESC, m.id DESC
    """
)
_IDS = text("SELECT nextval('messages_id_seq') FROM generate_series(1, :wanted)")
_ADD = text(
    """
    INSERT INTO inbound_messages (id, organisation_id, phone, to_number, text, received_at, provider,
                                  provider_message_id, contact_id, schedule_id, keyword, media_urls)
    SELECT id, organisation_id, phone, to_number, text, received_at, provider, provider_message_id, contact_id,
           schedule_id, keyword, ARRAY(SELECT jsonb_array_elements_text(CAST(media_urls AS jsonb)))
    FROM unnest(CAST(:ids AS bigint[]), CAST(:organisations AS text[]), CAST(:phones AS text[]),
                CAST(:to_numbers AS text[]), CAST(:texts AS text[]), CAST(:moments AS timestamptz[]),
                CAST(:providers AS text[]), CAST(:provider_ids AS text[]), CAST(:contacts AS bigint[]),
                CAST(:schedules AS bigint[]), CAST(:keywords AS text[]), CAST(:media_urls AS text[]))
        AS new (id, organisation_id, phone, to_number, text, received_at, provider, provider_message_id, contact_id,
                schedule_id, keyword, media_urls)
    """
)
_ANSWERED_TODAY = text(
    """
    SELECT n.organisation_id, n.phone, n.keyword
    FROM unnest(CAST(:organisations AS text[]), CAST(:phones AS text[]), CAST(:keywords AS text[]))
        AS n (organisation_id, phone, keyword)
    WHERE EXISTS (
        SELECT FROM messages m JOIN inbound_messages i ON i.id = m.answers
        WHERE m.phone = n.phone AND m.organisation_id = n.organisation_id
          AND m.created_at > now() - interval '1 day' AND i.keyword = n.keyword)
    """
)
_ADD_ANSWERS = text(
    """
    INSERT INTO messages (organisation_id, run, contact_id, phone, text, format, units, scheduled_time, period, lane,
                          request_id, deadline, answers)
    SELECT organisation_id, 1, contact_id, phone, text, 'sms', units, now(), period, 'single', request_id,
           now() + make_interval(secs => :deadline_s), answers
    FROM unnest(CAST(:organisations AS text[]), CAST(:contacts AS bigint[]), CAST(:phones AS text[]),
                CAST(:texts AS text[]), CAST(:units AS int[]), CAST(:periods AS date[]),
                CAST(:request_ids AS text[]), CAST(:answered AS bigint[]))
        AS new (organisation_id, contact_id, phone, text, units, period, request_id, answers)
    ON CONFLICT (answers) WHERE answers IS NOT NULL DO NOTHING
    """
)


async def answered(session: AsyncSession, replies: Collection[Reply]) -> dict[int, Owner]:
    """ProviderEvent id → whose the message is that the reply says it answers."""
    parameters = {
        "notices": [reply.notice_id for reply in replies],
        "ids": [reply.answered for reply in replies],
        "phones": [reply.phone for reply in replies],
    }
    rows = await session.execute(_ANSWERED, parameters)
    return {row.notice_id: Owner(row.organisation_id, row.contact_id, row.schedule_id) for row in rows}


async def candidates(session: AsyncSession, replies: Collection[Reply]) -> dict[tuple[str, str], list[Row[Any]]]:
    """(phone, provider) → the newest messages to that phone by organisation and sender, the newest first."""
    parameters = {"phones": [reply.phone for reply in replies], "providers": [reply.provider for reply in replies]}
    found: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in await session.execute(_CANDIDATES, {**parameters, "memory_days": _MEMORY_DAYS}):
        found.setdefault((row.phone, row.provider), []).append(row)
    return found


async def next_ids(session: AsyncSession, wanted: int) -> list[int]:
    """Ids for messages that come in, of the sequence that numbers those that go out."""
    return list((await session.scalars(_IDS, {"wanted": wanted})).all())


async def add(session: AsyncSession, replies: Sequence[KeptReply]) -> None:
    """Adds messages that came in."""
    await session.execute(
        _ADD,
        {
            "ids": [kept.id for kept in replies],
            "organisations": [kept.owner.organisation_id for kept in replies],
            "phones": [kept.reply.phone for kept in replies],
            "to_numbers": [kept.reply.to for kept in replies],
            "texts": [kept.reply.inbound.text for kept in replies],
            "moments": [kept.reply.received_at for kept in replies],
            "providers": [kept.reply.provider for kept in replies],
            "provider_ids": [kept.reply.inbound.provider_message_id for kept in replies],
            "contacts": [kept.owner.contact_id for kept in replies],
            "schedules": [kept.owner.schedule_id for kept in replies],
            "keywords": [kept.keyword for kept in replies],
            "media_urls": [to_json(kept.reply.inbound.media_urls).decode() for kept in replies],
        },
    )


async def answered_today(session: AsyncSession, keys: Collection[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Which of these (organisation, phone, keyword) had their answer within a day."""
    parameters = {
        "organisations": [organisation for organisation, _, _ in keys],
        "phones": [phone for _, phone, _ in keys],
        "keywords": [keyword for _, _, keyword in keys],
    }
    rows = await session.execute(_ANSWERED_TODAY, parameters)
    return {(row.organisation_id, row.phone, row.keyword) for row in rows}


async def add_answers(session: AsyncSession, answers: Sequence[tuple[KeptReply, str, int, date]]) -> None:
    """Queues our answers: what is answered, text, parts, month."""
    kept = [answer[0] for answer in answers]
    await session.execute(
        _ADD_ANSWERS,
        {
            "organisations": [one.owner.organisation_id for one in kept],
            "contacts": [one.owner.contact_id for one in kept],
            "phones": [one.reply.phone for one in kept],
            "texts": [words for _, words, _, _ in answers],
            "units": [parts for _, _, parts, _ in answers],
            "periods": [period for _, _, _, period in answers],
            "request_ids": [one.reply.request_id for one in kept],
            "answered": [one.id for one in kept],
            "deadline_s": _ANSWER_DEADLINE_S,
        },
    )
