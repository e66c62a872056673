"""The statements that claim queued messages and apply the results of submissions to them."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.messages.rules import REFUSAL
from delivery.models import FINAL, IN_SUBMISSION, PUBLISHED, ClaimedMessage, OutcomeRow, columns, read_rows, sql_list
from delivery.sending.routing import Share
from delivery.sending.rules import Capacity, Result

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
_RESULT = Columns(
    message_id="bigint",
    key="uuid",
    tries="int",
    status="text",
    failure_category="text",
    error="text",
    provider_message_id="text",
    billed_parts="int",
    provider_status="text",
    delay_s="float8",
    returns_attempt="boolean",
    is_separate="boolean",
)
_ACCEPTANCE = Columns(message_id="bigint", key="uuid", provider_message_id="text", billed_parts="int")
# An acceptance applies while the message is in this submission, however late it arrives. Any other result applies only
# to the try that it answers: a late refusal must not free a message that a resend is sending.
_APPLY = text(
    f"""
    UPDATE messages m SET
        status = r.status,
        changed_at = now(),
        version = m.version + CASE WHEN r.status IN ({sql_list(PUBLISHED)}) THEN 1 ELSE 0 END,
        attempts = m.attempts - CASE WHEN r.returns_attempt THEN 1 ELSE 0 END,
        is_separate = m.is_separate OR r.is_separate,
        provider_message_id = coalesce(r.provider_message_id, m.provider_message_id),
        sent_time = CASE WHEN r.status = 'sent' THEN now() END,
        failure_category = r.failure_category,
        error = r.error,
        billed_parts = coalesce(r.billed_parts, m.billed_parts),
        provider_status = coalesce(r.provider_status, m.provider_status),
        next_attempt_at = CASE WHEN r.status = 'retry_wait' THEN now() + make_interval(secs => r.delay_s) END
    FROM {_RESULT.unnest("r")}
    WHERE m.id = r.message_id AND m.id = ANY({_RESULT.array("message_id")}) AND m.submission_key = r.key
      AND (m.status = 'sending' AND m.submission_tries = r.tries
           OR r.status = 'sent' AND m.status IN ({sql_list(IN_SUBMISSION)}))
    RETURNING {columns(OutcomeRow, "m")}
    """
)
# A delivery receipt arrived before the acceptance was committed. The acceptance only adds what the receipt lacked.
_COMPLETE = text(
    f"""
    UPDATE messages m SET provider_message_id = coalesce(m.provider_message_id, a.provider_message_id),
                          billed_parts = coalesce(m.billed_parts, a.billed_parts)
    FROM {_ACCEPTANCE.unnest("a")}
    WHERE m.id = a.message_id AND m.id = ANY({_ACCEPTANCE.array("message_id")}) AND m.submission_key = a.key
      AND m.status IN ({sql_list(FINAL)})
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


async def apply_results(session: AsyncSession, results: Sequence[Result]) -> list[OutcomeRow]:
    """Apply results to their messages and return those that changed.

    There must be at most one result for each message and submission.
    """
    return read_rows(OutcomeRow, await session.execute(_APPLY, _bind(_RESULT, results)))


async def complete(session: AsyncSession, acceptances: Sequence[Result]) -> None:
    """Add the provider's ids and parts to messages that have an outcome already."""
    await session.execute(_COMPLETE, _bind(_ACCEPTANCE, acceptances))


def _bind(wanted: Columns, results: Sequence[Result]) -> dict[str, list[Any]]:
    """Return the bind values of results."""
    return wanted.bind(
        results,
        failure_category=[result.failure and result.failure.category for result in results],
        error=[result.failure and result.failure.error for result in results],
        provider_message_id=[result.answer.provider_message_id for result in results],
        billed_parts=[result.answer.parts for result in results],
        provider_status=[result.answer.raw for result in results],
        delay_s=[result.retry.delay_s for result in results],
        returns_attempt=[result.retry.returns_attempt for result in results],
        is_separate=[result.retry.is_separate for result in results],
    )
