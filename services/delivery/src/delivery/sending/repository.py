"""The statement that claims queued messages."""
# ruff: noqa: S608 (the parts of the statements are constants)

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import keep_plans
from delivery.messages.rules import REFUSAL
from delivery.models import ORGANISATION_PAUSED, PROVIDER_PAUSED, ClaimedMessage, columns, read_rows
from delivery.sending.routing import Share
from delivery.sending.rules import Capacity

# One lane of the claim. It finds the organisations with a queued message by stepping over the index, from the one after
# the last that was served. It skips organisations whose messages are another provider's, and paused ones. While the
# provider is paused it finds none. Each organisation gets an equal share of the messages. What some leave of their
# shares goes to those that have more messages, the oldest first.
_MESSAGES = """
            SELECT id, organisation_id, contact_id, phone, text, format, subject, media_url, parts, lane, attempts,
                   is_separate, deadline, request_id, traceparent, auto_reply_to
            FROM messages
            WHERE status = 'queued' AND format = :format AND lane = '{lane}'
"""
_LANE = f"""
    {{lane}}_steps AS (
        (SELECT organisation_id FROM messages
         WHERE status = 'queued' AND format = :format AND lane = '{{lane}}' AND organisation_id > :{{lane}}_after
         ORDER BY organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.organisation_id FROM messages m
                WHERE m.status = 'queued' AND m.format = :format AND m.lane = '{{lane}}'
                  AND m.organisation_id > s.organisation_id
                ORDER BY m.organisation_id LIMIT 1)
        FROM {{lane}}_steps s WHERE s.organisation_id IS NOT NULL
    ),
    {{lane}}_organisations AS MATERIALIZED (
        SELECT organisation_id FROM {{lane}}_steps
        WHERE organisation_id IS NOT NULL
          AND (organisation_id IN (SELECT unnest(CAST(:organisations AS text[])))) <> CAST(:others AS boolean)
          AND NOT {PROVIDER_PAUSED} AND NOT {ORGANISATION_PAUSED.format(organisation="organisation_id")}
        LIMIT {{wanted}}
    ),
    {{lane}}_share AS MATERIALIZED (
        SELECT CAST(ceil(CAST({{wanted}} AS numeric) / greatest(count(*), 1)) AS bigint) AS share
        FROM {{lane}}_organisations
    ),
    {{lane}}_first AS MATERIALIZED (
        SELECT m.* FROM {{lane}}_organisations o CROSS JOIN LATERAL ({_MESSAGES}
              AND organisation_id = o.organisation_id
            ORDER BY id LIMIT (SELECT share FROM {{lane}}_share) FOR UPDATE SKIP LOCKED
        ) m LIMIT {{wanted}}
    ),
    {{lane}}_left AS MATERIALIZED (SELECT {{wanted}} - count(*) AS room FROM {{lane}}_first),
    {{lane}}_more AS MATERIALIZED (
        SELECT m.* FROM (
            SELECT organisation_id, max(id) AS last_id FROM {{lane}}_first
            GROUP BY organisation_id HAVING count(*) >= (SELECT share FROM {{lane}}_share) ORDER BY max(id)
        ) o CROSS JOIN LATERAL ({_MESSAGES}
              AND organisation_id = o.organisation_id AND id > o.last_id
            ORDER BY id LIMIT (SELECT room FROM {{lane}}_left) FOR UPDATE SKIP LOCKED
        ) m LIMIT (SELECT room FROM {{lane}}_left)
    ),
    {{lane}}_claim AS (SELECT * FROM {{lane}}_first UNION ALL SELECT * FROM {{lane}}_more)
"""
# A round that began in the middle has not seen the single messages of the organisations before it, so campaigns wait
# for the next round.
_LEFT_FOR_BULK = """(SELECT CASE WHEN :single_after = '' THEN CAST(:wanted AS bigint) - count(*) ELSE 0 END
                     FROM single_claim)"""
_CLAIM = text(
    f"""
    WITH RECURSIVE
    {_LANE.format(lane="single", wanted="CAST(:wanted AS bigint)")},
    {_LANE.format(lane="bulk", wanted=_LEFT_FOR_BULK)},
    claimed AS (SELECT * FROM single_claim UNION ALL SELECT * FROM bulk_claim)
    SELECT {columns(ClaimedMessage)} FROM (
        SELECT *, deadline <= now() AS is_expired, {REFUSAL.format(m="claimed")} AS refusal FROM claimed
    ) AS checked
    """
)


async def claim(session: AsyncSession, provider: str, capacity: Capacity, share: Share) -> list[ClaimedMessage]:
    """Lock queued messages: single ones first, in each lane the organisations of the share in equal parts.

    Each lane begins after the organisation of its position, and campaigns get what all single messages leave. Rows
    that are locked already are skipped, and so is what is paused.
    """
    # The statement is large: planning it takes twice as long as executing it.
    await keep_plans(session)
    rows = await session.execute(
        _CLAIM,
        {
            "provider": provider,
            "format": capacity.message_format,
            "wanted": capacity.messages,
            "organisations": share.organisations,
            "others": share.others,
            "single_after": capacity.positions.single,
            "bulk_after": capacity.positions.bulk,
        },
    )
    return read_rows(ClaimedMessage, rows)
