"""Statements on batches and on their messages as a whole."""

# ruff: noqa: S608 (the statements are put together from constants of this file and of the models)

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.database import keep_plans
from common.errors import NotFound
from common.events import ContactState
from common.paging import Page
from scheduling.models import FINAL, OPEN, SUCCESSFUL, Schedule, ScheduleStatus, sql_list

_ERRORS = {
    "none_sent": "No message of this batch was sent.",
    "no_members": "No member of the group could be messaged when the batch was due.",
}
_MEMBER = Columns(contact_id="bigint", version="bigint", phone="text", fields="jsonb")
_IDS = Columns(id="bigint")
_CONTENT = ("text", "template_id", "template_version", "format", "media_url", "subject")

_ADD = text(
    """
    INSERT INTO schedules (organisation_id, kind, status, group_id, group_name, name, template_id, template_version,
                           text, scheduled_time, next_due_at, format, media_url, subject, reservation,
                           outcome_awaited, message_count, created_by, updated_by, request_id)
    VALUES (:organisation_id, 'batch', :status, :group_id, :group_name, :name, :template_id, :template_version,
            :text, :scheduled_time, :scheduled_time, :format, :media_url, :subject, :reservation,
            :outcome_awaited, :message_count, :user_id, :user_id, :request_id)
    RETURNING id
    """
)
_ADD_MESSAGES = text(
    f"""
    INSERT INTO schedules (organisation_id, kind, batch_id, batch_position, contact_id, contact_version, phone, fields,
                           created_by, updated_by)
    SELECT b.organisation_id, 'batch_message', b.id,
           (SELECT coalesce(max(batch_position), 0) FROM schedules
            WHERE kind = 'batch_message' AND batch_id = :batch_id) + row_number() OVER (ORDER BY m.contact_id),
           m.contact_id, m.version, m.phone, m.fields, b.created_by, b.created_by
    FROM schedules b, {_MEMBER.unnest("m")}
    WHERE b.id = :batch_id
    ORDER BY m.contact_id -- ids are drawn in this order, which is that of the positions
    """
)
_MOVE_CURSOR = text(
    """
    UPDATE schedules b
    SET fan_out_cursor = coalesce(:next, fan_out_cursor), fan_out_lease_until = now(),
        fanned_out_at = CASE WHEN CAST(:next AS bigint) IS NULL THEN now() END,
        message_count = CASE WHEN CAST(:next AS bigint) IS NOT NULL THEN message_count ELSE
            (SELECT count(*) FROM schedules m WHERE m.kind = 'batch_message' AND m.batch_id = :id) END
    WHERE id = :id
    """
)
_LOCK = text("SELECT id FROM schedules WHERE id = :id AND kind = 'batch' FOR UPDATE")
_FIND = text("SELECT * FROM shown_schedules WHERE id = :id AND kind = 'batch'")
_FILTER = """
    kind = 'batch' AND status <> 'cancelled' AND (CAST(:group_id AS bigint) IS NULL OR group_id = :group_id)
    AND scheduled_time >= coalesce(CAST(:start AS timestamptz), timestamptz '-infinity')
    AND scheduled_time < coalesce(CAST(:end AS timestamptz), timestamptz 'infinity')
"""
_COUNT = text(f"SELECT count(*) FROM schedules WHERE {_FILTER}")
_PAGE = text(
    f"""
    SELECT * FROM shown_schedules
    WHERE id = ANY(ARRAY(SELECT id FROM schedules WHERE {_FILTER}
                         ORDER BY scheduled_time DESC, id DESC LIMIT :limit OFFSET :offset))
    ORDER BY scheduled_time DESC, id DESC
    """
)
_COUNT_MESSAGES = text(
    """
    SELECT status, sum(total)::int AS number FROM batch_counts WHERE batch_id = :id
    GROUP BY status HAVING sum(total) > 0
    """
)
# Positions begin at 1, have no gaps and never change, so a page far from the start costs no more than the first.
_PAGE_MESSAGES = text(
    """
    SELECT * FROM shown_schedules
    WHERE id = ANY(ARRAY(SELECT id FROM schedules WHERE kind = 'batch_message' AND batch_id = :id
                         AND batch_position BETWEEN CAST(:offset AS int) + 1 AND CAST(:offset AS int) + :limit))
    ORDER BY id
    """
)
_UPDATE = text(
    """
    UPDATE schedules
    SET name = :name, template_id = :template_id, template_version = :template_version, text = :text,
        format = :format, media_url = :media_url, subject = :subject, scheduled_time = :scheduled_time,
        next_due_at = :scheduled_time, updated_by = :user_id, updated_at = now()
    WHERE id = :id
    """
)
# A change of a batch applies to its pending messages. The others, such as cancelled ones, store what they had.
_STORE_OWN = text(
    f"""
    UPDATE schedules m
    SET {", ".join(f"{name} = CASE WHEN m.text IS NULL THEN b.{name} ELSE m.{name} END" for name in _CONTENT)},
        scheduled_time = coalesce(m.scheduled_time, b.scheduled_time)
    FROM schedules b
    WHERE b.id = :id AND m.kind = 'batch_message' AND m.batch_id = b.id AND m.status <> 'pending'
      AND (m.text IS NULL OR m.scheduled_time IS NULL)
    """
)
# While a batch is pending, few of its messages have a text or time of their own: those that a person changed.
_CLEAR_OWN = text(
    """
    UPDATE schedules
    SET text = NULL, template_id = NULL, template_version = NULL, format = NULL, media_url = NULL, subject = NULL,
        scheduled_time = NULL
    WHERE kind = 'batch_message' AND batch_id = :id AND status = 'pending'
      AND (text IS NOT NULL OR scheduled_time IS NOT NULL)
    """
)
_HAS_PENDING = text(
    """
    SELECT b.fanned_out_at IS NULL OR b.retry_at IS NOT NULL OR EXISTS (
        SELECT FROM schedules m WHERE m.kind = 'batch_message' AND m.batch_id = b.id AND m.status = 'pending')
    FROM schedules b WHERE b.id = :id
    """
)
_CANCEL = text(
    """
    UPDATE schedules SET status = 'cancelled', retry_at = NULL, updated_by = :user_id, updated_at = now()
    WHERE id = :id
    """
)
_CLAIM_FAN_OUT = text(
    f"""
    UPDATE schedules
    SET fan_out_lease_until = now() + interval '10 seconds'
    WHERE id = ANY(ARRAY(
        SELECT id FROM schedules
        WHERE kind = 'batch' AND fanned_out_at IS NULL AND status IN ({sql_list(OPEN)})
          AND (fan_out_lease_until IS NULL OR fan_out_lease_until <= now())
        ORDER BY fan_out_lease_until NULLS FIRST, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING id, organisation_id, group_id, fan_out_cursor, created_at
    """
)
_LOCK_FAN_OUT = text(
    f"""
    SELECT id FROM schedules
    WHERE id = :id AND fan_out_cursor = :cursor AND fanned_out_at IS NULL AND status IN ({sql_list(OPEN)})
    FOR NO KEY UPDATE
    """
)
_LOCK_FINISHED = text(
    f"""
    SELECT b.id FROM schedules b
    WHERE b.kind = 'batch' AND b.status = 'processing' AND b.fanned_out_at IS NOT NULL AND b.next_due_at <= now()
      AND b.retry_at IS NULL
      AND NOT EXISTS (SELECT FROM schedules m WHERE m.kind = 'batch_message' AND m.batch_id = b.id
                      AND m.status IN ({sql_list(OPEN)}))
    LIMIT 100 FOR UPDATE SKIP LOCKED
    """
)
# PostgreSQL estimates ten elements for an array from a query, so it uses the index even with stale statistics.
_ANY_ID = f"ANY(ARRAY(SELECT unnest({_IDS.array('id')})))"
_COMPUTE_OUTCOME = f"""
    UPDATE schedules b
    SET status = e.status, updated_at = now(),
        sent_time = CASE WHEN e.status = 'sent' THEN coalesce(b.sent_time, now()) END,
        failure_category = CASE WHEN e.status = 'failed' THEN coalesce(e.failure_category, 'unknown') END,
        error = CASE WHEN e.status <> 'failed' THEN NULL
                     WHEN e.failure_category IS NULL THEN :no_members ELSE :none_sent END
    FROM (
        SELECT q.id, f.failure_category,
               CASE WHEN EXISTS (SELECT FROM schedules m WHERE m.kind = 'batch_message' AND m.batch_id = q.id
                                 AND m.status IN ({sql_list(SUCCESSFUL)})) THEN 'sent'
                    WHEN q.message_count > 0 AND f.failure_category IS NULL THEN 'cancelled'
                    ELSE 'failed' END AS status
        FROM schedules q
        LEFT JOIN LATERAL (SELECT m.failure_category FROM schedules m
                           WHERE m.kind = 'batch_message' AND m.batch_id = q.id AND m.status = 'failed'
                           LIMIT 1) f ON true
        WHERE q.id = {_ANY_ID}
          AND NOT EXISTS (SELECT FROM schedules m WHERE m.kind = 'batch_message' AND m.batch_id = q.id
                          AND m.status IN ({sql_list(OPEN)}))
    ) e
    WHERE b.id = e.id AND b.id = {_ANY_ID}
"""
_FINISH = text(_COMPUTE_OUTCOME)
_RECOMPUTE = text(f"{_COMPUTE_OUTCOME} AND b.status IN ('sent', 'failed')")
_RESERVATIONS_TO_RELEASE = text(
    f"""
    SELECT b.id, b.organisation_id, b.reservation FROM schedules b
    WHERE b.reservation IS NOT NULL AND b.kind = 'batch' AND b.status IN ({sql_list(FINAL)})
      AND NOT EXISTS (SELECT FROM schedules m WHERE m.kind = 'batch_message' AND m.batch_id = b.id
                      AND m.status = 'processing')
    ORDER BY b.id LIMIT 100
    """
)
_CLEAR_RESERVATION = text("UPDATE schedules SET reservation = NULL WHERE id = :id")
_KNOWN_RESERVATIONS = text(
    f"""
    SELECT DISTINCT reservation FROM schedules
    WHERE reservation = ANY(CAST(:references AS uuid[])) AND status IN ({sql_list(OPEN)})
    """
)


@dataclass(frozen=True, slots=True)
class FanOut:
    """The progress of a batch's fan-out. Members that were in the group by `accepted_at` get a message."""

    batch_id: int
    organisation_id: str
    group_id: int
    cursor: int
    accepted_at: datetime


class ReservationToRelease(NamedTuple):
    """The reservation of a batch that dispatches no more messages."""

    batch_id: int
    organisation_id: str
    reference: UUID


async def add(session: AsyncSession, values: Mapping[str, Any]) -> int:
    """Insert a batch and return its id. The values are the columns of the statement, and user_id."""
    return int((await session.execute(_ADD, values)).scalar_one())


async def add_messages(session: AsyncSession, batch_id: int, members: Sequence[ContactState]) -> None:
    """Insert a message for each member, in the order of the contacts' ids. The caller has locked the batch."""
    values = _MEMBER.bind(members, fields=[json.dumps(member.fields) for member in members])
    # Otherwise PostgreSQL plans the foreign key's check anew for each message, which doubles the time.
    await keep_plans(session)
    await session.execute(_ADD_MESSAGES, {**values, "batch_id": batch_id})


async def move_cursor(session: AsyncSession, batch_id: int, next_cursor: int | None) -> None:
    """Continue the fan-out at `next_cursor`. With None it is complete, and the batch's messages are counted."""
    await session.execute(_MOVE_CURSOR, {"id": batch_id, "next": next_cursor})


async def lock(session: AsyncSession, batch_id: int) -> Schedule:
    """Lock a batch and return it. Raises NotFound."""
    await session.execute(_LOCK, {"id": batch_id})
    return await get(session, batch_id)


async def get(session: AsyncSession, batch_id: int) -> Schedule:
    """Return a batch. Raises NotFound."""
    row = (await session.execute(_FIND, {"id": batch_id})).one_or_none()
    if row is None:
        raise NotFound
    return Schedule.of(row)


async def page(
    session: AsyncSession, start: datetime | None, end: datetime | None, group_id: int | None, page: Page
) -> tuple[list[Schedule], int]:
    """Return a page of batches from `start` until before `end`, the latest first, and how many there are."""
    values = {"start": start, "end": end, "group_id": group_id}
    total = await session.scalar(_COUNT, values)
    rows = await session.execute(_PAGE, {**values, "limit": page.limit, "offset": page.offset})
    return [Schedule.of(row) for row in rows], int(total or 0)


async def count_messages(session: AsyncSession, batch_id: int) -> dict[ScheduleStatus, int]:
    """Count the written messages of a batch by the status in their own rows."""
    rows = await session.execute(_COUNT_MESSAGES, {"id": batch_id})
    return {ScheduleStatus(row.status): row.number for row in rows}


async def page_messages(session: AsyncSession, batch_id: int, page: Page) -> list[Schedule]:
    """Return a page of a batch's messages in the order of their positions in it."""
    values = {"id": batch_id, "limit": page.limit, "offset": page.offset}
    return [Schedule.of(row) for row in await session.execute(_PAGE_MESSAGES, values)]


async def update(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Write what a person can change. Pending messages lose the text and time of their own, and others keep theirs."""
    await session.execute(_STORE_OWN, {"id": values["id"]})
    await session.execute(_UPDATE, values)
    await session.execute(_CLEAR_OWN, {"id": values["id"]})


async def has_pending(session: AsyncSession, batch_id: int) -> bool:
    """Return whether a cancellation would keep any message of the batch from being sent."""
    return bool(await session.scalar(_HAS_PENDING, {"id": batch_id}))


async def cancel(session: AsyncSession, batch_id: int, user_id: int | None) -> None:
    """Cancel a batch. Only its own row is written: its pending messages count as cancelled with it."""
    await session.execute(_CANCEL, {"id": batch_id, "user_id": user_id})


async def claim_fan_out_all_tenants(session: AsyncSession) -> FanOut | None:
    """Claim the batch that has waited longest for its next page of members, with a lease of 10 s."""
    row = (await session.execute(_CLAIM_FAN_OUT)).one_or_none()
    if row is None:
        return None
    return FanOut(
        batch_id=row.id,
        organisation_id=row.organisation_id,
        group_id=row.group_id,
        cursor=row.fan_out_cursor,
        accepted_at=row.created_at,
    )


async def lock_fan_out_all_tenants(session: AsyncSession, claim: FanOut) -> bool:
    """Lock the batch and return whether it still waits for the page of this claim."""
    values = {"id": claim.batch_id, "cursor": claim.cursor}
    return (await session.execute(_LOCK_FAN_OUT, values)).one_or_none() is not None


async def finish_all_tenants(session: AsyncSession) -> int:
    """Finish batches that are fanned out and have no open message. Return how many were locked.

    A retry locks the batch before it reopens a message. So the second statement, which looks again, sees every message
    that was reopened before the lock.
    """
    ids = list((await session.scalars(_LOCK_FINISHED)).all())
    if ids:
        await session.execute(_FINISH, {"id": ids, **_ERRORS})
    return len(ids)


async def recompute_all_tenants(session: AsyncSession, batch_ids: Sequence[int]) -> None:
    """Compute the outcome of those batches again that were finished. The caller has locked them."""
    await session.execute(_RECOMPUTE, {"id": list(batch_ids), **_ERRORS})


async def find_reservations_to_release_all_tenants(session: AsyncSession) -> list[ReservationToRelease]:
    """Return reservations of batches that dispatch no more messages, 100 at most."""
    rows = await session.execute(_RESERVATIONS_TO_RELEASE)
    return [ReservationToRelease(row.id, row.organisation_id, row.reservation) for row in rows]


async def clear_reservation_all_tenants(session: AsyncSession, batch_id: int) -> None:
    """Remove the released reservation from its batch."""
    await session.execute(_CLEAR_RESERVATION, {"id": batch_id})


async def find_known_reservations_all_tenants(session: AsyncSession, references: Sequence[UUID]) -> list[UUID]:
    """Return those of the reservations that belong to an open schedule."""
    return list((await session.scalars(_KNOWN_RESERVATIONS, {"references": list(references)})).all())
