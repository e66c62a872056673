"""Statements on single schedules and on messages of batches."""

# ruff: noqa: S608 (the statements are put together from constants of this file and of the models)

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.paging import Page
from scheduling.models import MEDIA_NAME, OPEN, Schedule, ScheduleStatus, sql_list

_ADD = text(
    """
    INSERT INTO schedules (organisation_id, kind, status, dispatch_number, group_id, contact_id, contact_version,
                           has_own_phone, phone, fields, name, template_id, template_version, text, message_parts,
                           scheduled_time, format, media_url, subject, reservation, sweep_at, outcome_awaited,
                           created_by, updated_by, request_id)
    SELECT :organisation_id, 'single', :status, :dispatch_number, CAST(:group_id AS bigint),
           CAST(:contact_id AS bigint), CAST(:contact_version AS bigint), CAST(:has_own_phone AS boolean), :phone,
           CAST(:fields AS jsonb), :name, CAST(:template_id AS bigint), CAST(:template_version AS int), :text,
           CAST(:message_parts AS int), CAST(:scheduled_time AS timestamptz), :format, :media_url, :subject,
           CAST(:reservation AS uuid), now() + make_interval(secs => CAST(:sweep_after_s AS double precision)),
           CAST(:outcome_awaited AS boolean), CAST(:user_id AS bigint), CAST(:user_id AS bigint), :request_id
    WHERE NOT EXISTS (SELECT FROM organisations o WHERE o.organisation_id = :organisation_id AND o.closed)
    RETURNING id
    """
)
# Where both are locked, the batch is locked before its message. Dispatch skips locked rows.
_LOCK = text(
    """
    SELECT id FROM schedules
    WHERE id = :id OR id = (SELECT batch_id FROM schedules WHERE id = :id)
    ORDER BY kind = 'batch_message', id FOR UPDATE
    """
)
_FIND = text("SELECT * FROM shown_schedules WHERE id = :id AND kind <> 'batch'")
_UPDATE = text(
    """
    UPDATE schedules
    SET contact_id = :contact_id, contact_version = :contact_version, has_own_phone = :has_own_phone, phone = :phone,
        fields = CAST(:fields AS jsonb), name = :name, template_id = :template_id,
        template_version = :template_version, text = :text, format = :format, media_url = :media_url,
        subject = :subject, scheduled_time = :scheduled_time,
        group_id = CASE WHEN kind = 'single' THEN CAST(:group_id AS bigint) END, updated_by = :user_id,
        updated_at = now()
    WHERE id = :id
    """
)
_HAS_MESSAGE = text(
    """
    SELECT EXISTS (SELECT FROM schedules
                   WHERE kind = 'batch_message' AND batch_id = :batch_id AND contact_id = CAST(:contact_id AS bigint))
    """
)
_ADVANCE_NEXT_DUE = text("UPDATE schedules SET next_due_at = least(next_due_at, :at) WHERE id = :id")
_CANCEL = text("UPDATE schedules SET status = 'cancelled', updated_by = :user_id, updated_at = now() WHERE id = :id")
_FILTER = """
    kind = 'single' AND group_id IS NULL AND status = ANY(CAST(:statuses AS text[]))
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
_COUNT_OF_CONTACT = text(
    "SELECT count(*) FROM shown_schedules WHERE contact_id = :contact_id AND status <> 'cancelled'"
)
_PAGE_OF_CONTACT = text(
    """
    SELECT * FROM shown_schedules WHERE contact_id = :contact_id AND status <> 'cancelled'
    ORDER BY scheduled_time DESC, id DESC LIMIT :limit OFFSET :offset
    """
)
_CANCEL_OF_CLOSED = text(
    f"""
    UPDATE schedules SET status = 'cancelled', retry_at = NULL, updated_by = NULL, updated_at = now()
    WHERE organisation_id = ANY(CAST(:organisations AS text[]))
      AND (kind = 'single' AND status = 'pending' OR kind = 'batch' AND status IN ({sql_list(OPEN)}))
    """
)
# A schedule that was changed or retried needs its file for as long as a new one.
_USED_MEDIA = text(
    f"""
    SELECT asked.name FROM unnest(CAST(:names AS text[])) AS asked (name)
    WHERE (SELECT true FROM schedules s
           WHERE s.media_url IS NOT NULL AND {MEDIA_NAME} = asked.name
             AND (s.status IN ({sql_list(OPEN)}) OR greatest(s.scheduled_time, s.updated_at) >= :since)
           LIMIT 1)
    """
)


async def add(session: AsyncSession, values: Mapping[str, Any]) -> int | None:
    """Insert a single schedule and return its id. Return None in a closed organisation.

    The values are the columns of the statement, with user_id, and sweep_after_s (None: no sweep).
    """
    return (await session.execute(_ADD, values)).scalar_one_or_none()


async def lock(session: AsyncSession, schedule_id: int) -> None:
    """Lock a single schedule, or a message of a batch and before it the batch."""
    await session.execute(_LOCK, {"id": schedule_id})


async def get(session: AsyncSession, schedule_id: int) -> Schedule:
    """Return a single schedule or a message of a batch. Raises NotFound."""
    row = (await session.execute(_FIND, {"id": schedule_id})).one_or_none()
    if row is None:
        raise NotFound
    return Schedule.of(row)


async def update(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Write all columns that a person can change. A message of a batch with a null text or time has its batch's."""
    await session.execute(_UPDATE, values)


async def has_message(session: AsyncSession, batch_id: int | None, contact_id: int | None) -> bool:
    """Return whether the contact has a message in the batch, which the caller has locked."""
    return bool(await session.scalar(_HAS_MESSAGE, {"batch_id": batch_id, "contact_id": contact_id}))


async def advance_next_due(session: AsyncSession, batch_id: int, at: datetime) -> None:
    """Make the batch due at that time, if it is not due earlier, because one of its messages is."""
    await session.execute(_ADVANCE_NEXT_DUE, {"id": batch_id, "at": at})


async def cancel(session: AsyncSession, schedule_id: int, user_id: int | None) -> None:
    """Set a schedule to cancelled."""
    await session.execute(_CANCEL, {"id": schedule_id, "user_id": user_id})


async def page(
    session: AsyncSession,
    start: datetime | None,
    end: datetime | None,
    statuses: Sequence[ScheduleStatus],
    page: Page,
) -> tuple[list[Schedule], int]:
    """Return a page of single schedules from `start` until before `end`, the latest first, and how many there are."""
    values = {"start": start, "end": end, "statuses": [status.value for status in statuses]}
    total = await session.scalar(_COUNT, values)
    rows = await session.execute(_PAGE, {**values, "limit": page.limit, "offset": page.offset})
    return [Schedule.of(row) for row in rows], int(total or 0)


async def page_of_contact(session: AsyncSession, contact_id: int, page: Page) -> tuple[list[Schedule], int]:
    """Return a page of a contact's schedules, the latest first, and how many there are.

    Messages of batches are among them, cancelled schedules are not.
    """
    total = await session.scalar(_COUNT_OF_CONTACT, {"contact_id": contact_id})
    values = {"contact_id": contact_id, "limit": page.limit, "offset": page.offset}
    rows = await session.execute(_PAGE_OF_CONTACT, values)
    return [Schedule.of(row) for row in rows], int(total or 0)


async def cancel_of_closed_all_tenants(session: AsyncSession, organisations: Sequence[str]) -> None:
    """Cancel what is pending in closed organisations. Messages of batches are cancelled with their batches."""
    await session.execute(_CANCEL_OF_CLOSED, {"organisations": list(organisations)})


async def find_used_media_all_tenants(session: AsyncSession, names: Sequence[str], since: datetime) -> list[str]:
    """Return those of the files that an open schedule names, or one whose time or last change is after `since`."""
    return list((await session.scalars(_USED_MEDIA, {"names": list(names), "since": since})).all())
