"""The statement that claims queued messages."""
# ruff: noqa: S608 (the parts of the statements are constants)

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from delivery.messages.rules import REFUSAL
from delivery.models import ClaimedMessage, columns, read_rows
from delivery.sending.routing import Share
from delivery.sending.rules import Capacity

# One lane of the claim. It finds the organisations with a queued message by stepping over the index, from the one after
# the last that was served. It skips organisations whose messages are another provider's. Each organisation gets an
# equal share of the messages.
_LANE = """
    {lane}_steps AS (
        (SELECT organisation_id FROM messages
         WHERE status = 'queued' AND format = :format AND lane = '{lane}' AND organisation_id > :{lane}_after
         ORDER BY organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.organisation_id FROM messages m
                WHERE m.status = 'queued' AND m.format = :format AND m.lane = '{lane}'
                  AND m.organisation_id > s.organisation_id
                ORDER BY m.organisation_id LIMIT 1)
        FROM {lane}_steps s WHERE s.organisation_id IS NOT NULL
    ),
    {lane}_organisations AS MATERIALIZED (
        SELECT organisation_id FROM {lane}_steps
        WHERE organisation_id IS NOT NULL
          AND (organisation_id IN (SELECT unnest(CAST(:organisations AS text[])))) <> CAST(:others AS boolean)
        LIMIT {wanted}
    ),
    {lane}_claim AS MATERIALIZED (
        SELECT m.* FROM {lane}_organisations o CROSS JOIN LATERAL (
            SELECT id, organisation_id, contact_id, phone, text, format, subject, media_url, parts, lane, attempts,
                   is_separate, deadline, request_id, auto_reply_to
            FROM messages
            WHERE status = 'queued' AND format = :format AND lane = '{lane}' AND organisation_id = o.organisation_id
            ORDER BY id
            LIMIT (SELECT CAST(ceil(CAST({wanted} AS numeric) / greatest(count(*), 1)) AS bigint)
                   FROM {lane}_organisations)
            FOR UPDATE SKIP LOCKED
        ) m LIMIT {wanted}
    )
"""
_CLAIM = text(
    f"""
    WITH RECURSIVE
    {_LANE.format(lane="single", wanted="CAST(:wanted AS bigint)")},
    {_LANE.format(lane="bulk", wanted="(SELECT CAST(:wanted AS bigint) - count(*) FROM single_claim)")},
    claimed AS (SELECT * FROM single_claim UNION ALL SELECT * FROM bulk_claim)
    SELECT {columns(ClaimedMessage)} FROM (
        SELECT *, deadline <= now() AS is_expired, {REFUSAL.format(m="claimed")} AS refusal FROM claimed
    ) AS checked
    """
)


async def claim(session: AsyncSession, capacity: Capacity, share: Share) -> list[ClaimedMessage]:
    """Lock queued messages: single ones first, in each lane the organisations of the share in equal parts.

    Each lane begins after the organisation of its position. Rows that are locked already are skipped.
    """
    rows = await session.execute(
        _CLAIM,
        {
            "format": capacity.message_format,
            "wanted": capacity.messages,
            "organisations": share.organisations,
            "others": share.others,
            "single_after": capacity.positions.single,
            "bulk_after": capacity.positions.bulk,
        },
    )
    return read_rows(ClaimedMessage, rows)
