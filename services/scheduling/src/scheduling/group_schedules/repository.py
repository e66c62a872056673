"""The statements on batches: their parents, their expansion into children, their end."""

# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.events import ContactState
from common.paging import Page
from scheduling.models import Schedule, Status

_WORDS = {
    "none_sent": "No message of this batch was sent.",
    "nobody": "Nobody in the group could be written to when the batch was due.",
}

_ADD = text(
    """
    INSERT INTO schedules (organisation_id, kind, status, group_id, group_name, name, template_id, template_version,
                           text, scheduled_time, wake_at, format, media_url, subject, hold, waited, child_count,
                           expanded_at, created_by, updated_by, request_id)
    VALUES (:organisation_id, 'parent', :status, :group_id, :group_name, :name, :template_id, :template_version,
            :text, :scheduled_time, :scheduled_time, :format, :media_url, :subject, :hold, :waited, :child_count,
            NULL, :user_id, :user_id, :request_id)
    RETURNING id
    """
)
_ADD_CHILDREN = text(
    """
    INSERT INTO schedules (organisation_id, kind, parent_id, contact_id, contact_version, phone, first_name,
                           last_name, company, created_by, updated_by)
    SELECT p.organisation_id, 'child', p.id, m.contact_id, m.version, m.phone, m.first_name, m.last_name, m.company,
           p.created_by, p.created_by
    FROM schedules p,
         unnest(CAST(:ids AS bigint[]), CAST(:versions AS bigint[]), CAST(:phones AS text[]),
                CAST(:first_names AS text[]), CAST(:last_names AS text[]), CAST(:companies AS text[]))
             AS m (contact_id, version, phone, first_name, last_name, company)
    WHERE p.id = :parent_id
    ON CONFLICT (parent_id, contact_id) WHERE kind = 'child' DO NOTHING
    """
)
_MOVE_CURSOR = text(
    """
    UPDATE schedules p
    SET expansion_cursor = coalesce(:next, expansion_cursor), lease_until = now(),
        expanded_at = CASE WHEN CAST(:next AS bigint) IS NULL THEN now() END,
        child_count = CASE WHEN CAST(:next AS bigint) IS NOT NULL THEN child_count ELSE
            (SELECT count(*) FROM schedules c WHERE c.kind = 'child' AND c.parent_id = :id) END
    WHERE id = :id
    """
)
_LOCK = text("SELECT id FROM schedules WHERE id = :id AND kind = 'parent' FOR UPDATE")
_FIND = text("SELECT * FROM shown_schedules WHERE id = :id AND kind = 'parent'")
_FILTER = """
    kind = 'parent' AND status <> 'cancelled' AND (CAST(:group_id AS bigint) IS NULL OR group_id = :group_id)
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
_COUNT_CHILDREN = text(
    "SELECT status, count(*) AS number FROM schedules WHERE kind = 'child' AND parent_id = :id GROUP BY status"
)
_UPDATE = text(
    """
    UPDATE schedules
    SET name = :name, template_id = :template_id, template_version = :template_version, text = :text,
        format = :format, media_url = :media_url, subject = :subject, scheduled_time = :scheduled_time,
        wake_at = :scheduled_time, updated_by = :user_id, updated_at = now()
    WHERE id = :id
    """
)
# Few children have anything of their own while their parent is pending: those that were changed by themselves.
_TAKE_AWAY = text(
    """
    UPDATE schedules
    SET text = NULL, template_id = NULL, template_version = NULL, format = NULL, media_url = NULL, subject = NULL,
        scheduled_time = NULL
    WHERE kind = 'child' AND parent_id = :id AND status = 'pending'
      AND (text IS NOT NULL OR scheduled_time IS NOT NULL)
    """
)
_HAS_PENDING = text(
    """
    SELECT p.expanded_at IS NULL OR p.retry_at IS NOT NULL OR EXISTS (
        SELECT FROM schedules c WHERE c.kind = 'child' AND c.parent_id = p.id AND c.status = 'pending')
    FROM schedules p WHERE p.id = :id
    """
)
_CANCEL = text(
    """
    UPDATE schedules SET status = 'cancelled', retry_at = NULL, updated_by = :user_id, updated_at = now()
    WHERE id = :id
    """
)
_CLAIM_RETRY = text(
    "SELECT id FROM schedules WHERE retry_at IS NOT NULL ORDER BY retry_at, id LIMIT 1 FOR UPDATE SKIP LOCKED"
)
_CLAIM_EXPANSION = text(
    """
    UPDATE schedules
    SET lease_until = now() + interval '10 seconds'
    WHERE id = ANY(ARRAY(
        SELECT id FROM schedules
        WHERE kind = 'parent' AND expanded_at IS NULL AND status IN ('pending', 'processing')
          AND (lease_until IS NULL OR lease_until <= now())
        ORDER BY lease_until NULLS FIRST, id LIMIT 1 FOR UPDATE SKIP LOCKED))
    RETURNING id, organisation_id, group_id, expansion_cursor, created_at
    """
)
_LOCK_EXPANSION = text(
    """
    SELECT id FROM schedules
    WHERE id = :id AND expansion_cursor = :cursor AND expanded_at IS NULL AND status IN ('pending', 'processing')
    FOR UPDATE
    """
)
_LOCK_ENDING = text(
    """
    SELECT p.id FROM schedules p
    WHERE p.kind = 'parent' AND p.status = 'processing' AND p.expanded_at IS NOT NULL AND p.wake_at <= now()
      AND p.retry_at IS NULL
      AND NOT EXISTS (SELECT FROM schedules c WHERE c.kind = 'child' AND c.parent_id = p.id
                      AND c.status IN ('pending', 'processing'))
    LIMIT 100 FOR UPDATE SKIP LOCKED
    """
)
# The planner takes such an array for ten long, and goes by the index whatever it thinks of the table.
_IDS = "ARRAY(SELECT unnest(CAST(:ids AS bigint[])))"
_END = f"""
    UPDATE schedules p
    SET status = e.status, updated_at = now(),
        sent_time = CASE WHEN e.status = 'sent' THEN coalesce(p.sent_time, now()) END,
        failure_category = CASE WHEN e.status = 'failed' THEN coalesce(e.category, 'unknown') END,
        error = CASE WHEN e.status <> 'failed' THEN NULL WHEN e.category IS NULL THEN :nobody ELSE :none_sent END
    FROM (
        SELECT q.id, f.category,
               CASE WHEN EXISTS (SELECT FROM schedules c WHERE c.kind = 'child' AND c.parent_id = q.id
                                 AND c.status IN ('sent', 'delivered')) THEN 'sent'
                    WHEN q.child_count > 0 AND f.category IS NULL THEN 'cancelled' ELSE 'failed' END AS status
        FROM schedules q
        LEFT JOIN LATERAL (SELECT c.failure_category AS category FROM schedules c
                           WHERE c.kind = 'child' AND c.parent_id = q.id AND c.status = 'failed' LIMIT 1) f ON true
        WHERE q.id = ANY({_IDS})
          AND NOT EXISTS (SELECT FROM schedules c WHERE c.kind = 'child' AND c.parent_id = q.id
                          AND c.status IN ('pending', 'processing'))
    ) e
    WHERE p.id = e.id AND p.id = ANY({_IDS})
"""
_END_FINISHED = text(_END)
_END_AGAIN = text(f"{_END} AND p.status IN ('sent', 'failed')")
_ENDED_HOLDS = text(
    """
    SELECT p.id, p.organisation_id, p.hold FROM schedules p
    WHERE p.hold IS NOT NULL AND p.kind = 'parent' AND p.status IN ('sent', 'failed', 'cancelled')
      AND NOT EXISTS (SELECT FROM schedules c WHERE c.kind = 'child' AND c.parent_id = p.id
                      AND c.status = 'processing')
    ORDER BY p.id LIMIT 100
    """
)
_FORGET_HOLD = text("UPDATE schedules SET hold = NULL WHERE id = :id")
_KNOWN_HOLDS = text(
    """
    SELECT DISTINCT hold FROM schedules
    WHERE hold = ANY(CAST(:references AS uuid[])) AND status IN ('pending', 'processing')
    """
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """How far a batch has been expanded; members who were in the group by `accepted_at` get a child."""

    parent_id: int
    organisation_id: str
    group_id: int
    cursor: int
    accepted_at: datetime


async def add(session: AsyncSession, values: Mapping[str, Any]) -> int:
    """A new parent. Values: the columns of the statement, and user_id."""
    return int((await session.execute(_ADD, values)).scalar_one())


async def add_children(session: AsyncSession, parent_id: int, members: Sequence[ContactState]) -> None:
    """A child for each member that has none yet."""
    given = {
        "parent_id": parent_id,
        "ids": [member.contact_id for member in members],
        "versions": [member.version for member in members],
        "phones": [member.phone for member in members],
        "first_names": [member.first_name for member in members],
        "last_names": [member.last_name for member in members],
        "companies": [member.company for member in members],
    }
    await session.execute(_ADD_CHILDREN, given)


async def move_cursor(session: AsyncSession, parent_id: int, next_cursor: int | None) -> None:
    """The expansion goes on at `next_cursor`, or, with None, is done: then the children are counted."""
    await session.execute(_MOVE_CURSOR, {"id": parent_id, "next": next_cursor})


async def lock(session: AsyncSession, parent_id: int) -> Schedule:
    """A parent, locked. Raises NotFound."""
    await session.execute(_LOCK, {"id": parent_id})
    return await get(session, parent_id)


async def get(session: AsyncSession, parent_id: int) -> Schedule:
    """A parent. Raises NotFound."""
    row = (await session.execute(_FIND, {"id": parent_id})).one_or_none()
    if row is None:
        raise NotFound
    return Schedule(*row)


async def page(
    session: AsyncSession, start: datetime | None, end: datetime | None, group_id: int | None, page: Page
) -> tuple[list[Schedule], int]:
    """Parents from `start` until before `end`, the latest first, and how many there are."""
    given = {"start": start, "end": end, "group_id": group_id}
    total = await session.scalar(_COUNT, given)
    rows = await session.execute(_PAGE, {**given, "limit": page.limit, "offset": page.offset})
    return [Schedule(*row) for row in rows], int(total or 0)


async def count_children(session: AsyncSession, parent_id: int) -> dict[Status, int]:
    """The children that are there, by the status in their own rows."""
    rows = await session.execute(_COUNT_CHILDREN, {"id": parent_id})
    return {row.status: row.number for row in rows}


async def update(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Writes what a person can change; pending children lose what they had of their own."""
    await session.execute(_UPDATE, values)
    await session.execute(_TAKE_AWAY, {"id": values["id"]})


async def has_pending(session: AsyncSession, parent_id: int) -> bool:
    """Whether anything of the batch can still be kept from going out."""
    return bool(await session.scalar(_HAS_PENDING, {"id": parent_id}))


async def cancel(session: AsyncSession, parent_id: int, user_id: int | None) -> None:
    """One row: pending children are cancelled with their parent."""
    await session.execute(_CANCEL, {"id": parent_id, "user_id": user_id})


async def claim_retry_all_tenants(session: AsyncSession) -> int | None:
    """A batch, locked, of which more failed messages are to go again."""
    parent_id: int | None = await session.scalar(_CLAIM_RETRY)
    return parent_id


async def claim_expansion_all_tenants(session: AsyncSession) -> Expansion | None:
    """The batch that has waited longest for its next page of members, with a lease of 10 s."""
    row = (await session.execute(_CLAIM_EXPANSION)).one_or_none()
    return Expansion(*row) if row is not None else None


async def lock_expansion_all_tenants(session: AsyncSession, expansion: Expansion) -> bool:
    """Whether the batch still waits for just this page."""
    given = {"id": expansion.parent_id, "cursor": expansion.cursor}
    return (await session.execute(_LOCK_EXPANSION, given)).one_or_none() is not None


async def end_finished_all_tenants(session: AsyncSession) -> int:
    """Ends batches that are expanded and have no open child; returns how many were looked at.

    Whoever opens a child again locks its parent first, so a second statement sees all that was opened before the lock.
    """
    ids = list((await session.scalars(_LOCK_ENDING)).all())
    if ids:
        await session.execute(_END_FINISHED, {"ids": ids, **_WORDS})
    return len(ids)


async def end_again_all_tenants(session: AsyncSession, parent_ids: Sequence[int]) -> None:
    """Of these, whose locks the caller holds, those that had ended end as their messages say now."""
    await session.execute(_END_AGAIN, {"ids": list(parent_ids), **_WORDS})


async def find_ended_holds_all_tenants(session: AsyncSession) -> list[tuple[int, str, UUID]]:
    """(parent, organisation, hold) of ended batches whose holds were not released yet."""
    return [(row.id, row.organisation_id, row.hold) for row in await session.execute(_ENDED_HOLDS)]


async def forget_hold_all_tenants(session: AsyncSession, parent_id: int) -> None:
    await session.execute(_FORGET_HOLD, {"id": parent_id})


async def find_known_holds_all_tenants(session: AsyncSession, references: Sequence[UUID]) -> list[UUID]:
    """Those of the references that an unfinished schedule carries."""
    return list((await session.scalars(_KNOWN_HOLDS, {"references": list(references)})).all())
