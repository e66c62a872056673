"""Statements that reopen failed messages and their batches."""

# ruff: noqa: S608 (the statements are put together from constants of this file)

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_REOPEN = """
    UPDATE schedules s
    SET status = 'pending', scheduled_time = now(), attempts = 0, error = NULL, failure_category = NULL,
        provider = NULL, sent_time = NULL, delivered_time = NULL, updated_by = :user_id, updated_at = now()
"""
_REOPEN_ONE = text(f"{_REOPEN} WHERE id = :id")
_COUNT_FAILED = text(
    """
    SELECT count(*) FROM schedules
    WHERE kind = 'batch_message' AND batch_id = :batch_id AND status = 'failed' AND NOT content_removed
      AND (:include_unknown OR failure_category <> 'outcome_unknown')
    """
)
_BEGIN = text(
    """
    UPDATE schedules
    SET retry_at = now(), retry_by = :user_id, retry_unknown = :include_unknown, retry_cursor = 0
    WHERE id = :batch_id
    """
)
_CLAIM = text(
    "SELECT id FROM schedules WHERE retry_at IS NOT NULL ORDER BY retry_at, id LIMIT 1 FOR UPDATE SKIP LOCKED"
)
# The messages are reopened in the order of their ids, so the cursor has passed a message that fails again meanwhile.
# Messages that failed after the retry began are not part of it.
_REOPEN_NEXT = text(
    f"""
    WITH b AS MATERIALIZED (
        SELECT id, retry_at, retry_by, retry_unknown, retry_cursor FROM schedules WHERE id = :batch_id
    ), next AS MATERIALIZED (
        SELECT m.id FROM b CROSS JOIN LATERAL (
            SELECT id FROM schedules m
            WHERE m.kind = 'batch_message' AND m.batch_id = b.id AND m.status = 'failed' AND m.id > b.retry_cursor
              AND m.updated_at <= b.retry_at AND NOT m.content_removed
              AND (b.retry_unknown OR m.failure_category <> 'outcome_unknown')
            ORDER BY m.id LIMIT :limit FOR UPDATE) m
    ), reopened AS (
        {_REOPEN.replace(":user_id", "b.retry_by")} FROM b WHERE s.id = ANY(ARRAY(SELECT id FROM next))
    )
    UPDATE schedules
    SET retry_cursor = coalesce((SELECT max(id) FROM next), retry_cursor),
        retry_at = CASE WHEN (SELECT count(*) FROM next) = :limit THEN retry_at END
    WHERE id = :batch_id
    """
)
# A batch that is still pending can be edited later. Its retried messages are dispatched before, so they take a copy of
# its present content.
_COPY_CONTENT = text(
    """
    UPDATE schedules m
    SET text = b.text, template_id = b.template_id, template_version = b.template_version, format = b.format,
        media_url = b.media_url, subject = b.subject
    FROM schedules b
    WHERE b.id = :batch_id AND b.status = 'pending' AND m.kind = 'batch_message' AND m.batch_id = b.id
      AND m.status = 'pending' AND m.scheduled_time IS NOT NULL AND m.text IS NULL
    """
)
_CANCEL_PENDING = text(
    """
    UPDATE schedules SET status = 'cancelled'
    WHERE id = ANY(ARRAY(
        SELECT m.id FROM schedules b JOIN schedules m ON m.kind = 'batch_message' AND m.batch_id = b.id
        WHERE b.id = :batch_id AND b.status = 'cancelled' AND m.status = 'pending' LIMIT :limit))
    """
)
_REOPEN_BATCH = text(
    """
    UPDATE schedules
    SET message_count = CASE WHEN status = 'cancelled'
                             THEN (SELECT count(*) FROM schedules m
                                   WHERE m.kind = 'batch_message' AND m.batch_id = :batch_id)
                             ELSE message_count END,
        fanned_out_at = CASE WHEN status = 'cancelled' THEN coalesce(fanned_out_at, now()) ELSE fanned_out_at END,
        status = CASE WHEN status = 'pending' THEN status ELSE 'processing' END,
        error = NULL, failure_category = NULL, next_due_at = least(next_due_at, now())
    WHERE id = :batch_id
    """
)


async def reopen_one(session: AsyncSession, schedule_id: int, user_id: int | None) -> None:
    """Set a schedule to pending and due now, without its outcome."""
    await session.execute(_REOPEN_ONE, {"id": schedule_id, "user_id": user_id})


async def count_failed(session: AsyncSession, batch_id: int, include_unknown: bool) -> int:
    """Return how many messages of a batch can be retried."""
    values = {"batch_id": batch_id, "include_unknown": include_unknown}
    return int(await session.scalar(_COUNT_FAILED, values) or 0)


async def begin_retry(session: AsyncSession, batch_id: int, user_id: int | None, include_unknown: bool) -> None:
    """Begin the retry of the messages of a batch that have failed by now."""
    values = {"batch_id": batch_id, "user_id": user_id, "include_unknown": include_unknown}
    await session.execute(_BEGIN, values)


async def claim_all_tenants(session: AsyncSession) -> int | None:
    """Lock the batch whose retry waits longest for its next messages, and return its id."""
    batch_id: int | None = await session.scalar(_CLAIM)
    return batch_id


async def reopen_next(session: AsyncSession, batch_id: int, limit: int) -> None:
    """Reopen the next messages of a batch whose retry has begun, and end the retry after the last one."""
    await session.execute(_REOPEN_NEXT, {"batch_id": batch_id, "limit": limit})


async def cancel_pending(session: AsyncSession, batch_id: int, limit: int | None = None) -> int:
    """Write the status of messages that were cancelled with their batch, all or `limit` of them. Return how many.

    Reopening the batch would make them pending again.
    """
    result = await session.execute(_CANCEL_PENDING, {"batch_id": batch_id, "limit": limit})
    return int(result.rowcount)  # type: ignore[attr-defined]


async def reopen_batch(session: AsyncSession, batch_id: int) -> None:
    """Move a batch to processing after its messages were reopened. One that was cancelled has no further fan-out."""
    await session.execute(_COPY_CONTENT, {"batch_id": batch_id})
    await session.execute(_REOPEN_BATCH, {"batch_id": batch_id})
