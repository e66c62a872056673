"""Statements on single schedules and on messages of batches."""

# ruff: noqa: S608 (the statements are put together from constants of this file and of the models)

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import OUTBOX
from common.errors import NotFound
from common.events import ScheduleDue
from common.outbox import outbox_row
from common.pages import PagedList
from common.paging import Page
from common.statements import ORGANISATION, ORGANISATION_CTE, Statement, Tenant
from scheduling.models import MEDIA_NAME, OPEN, Schedule, ScheduleStatus, sql_list

# The columns of `shown_schedules` that the API shows.
SHOWN_COLUMNS = (
    *("id", "kind", "status", "name", "template_id", "template_version", "text", "fields", "contact_id", "phone"),
    *("group_id", "batch_id", "scheduled_time", "sent_time", "delivered_time", "error", "failure_category"),
    *("attempts", "next_attempt_at", "provider", "format", "media_url", "subject"),
    *("created_by", "updated_by", "created_at", "updated_at"),
)
_SHOWN = ", ".join(SHOWN_COLUMNS)
# The columns of a new single schedule with their types in JSON.
_NEW = {
    "id": "bigint",
    "status": "text",
    "dispatch_number": "int",
    "group_id": "bigint",
    "contact_id": "bigint",
    "contact_version": "bigint",
    "has_own_phone": "boolean",
    "phone": "text",
    "fields": "text",
    "name": "text",
    "template_id": "bigint",
    "template_version": "int",
    "text": "text",
    "message_parts": "int",
    "scheduled_time": "timestamptz",
    "format": "text",
    "media_url": "text",
    "subject": "text",
    "reservation": "uuid",
    "outcome_awaited": "boolean",
    "request_id": "text",
    "created_by": "bigint",
    "updated_by": "bigint",
    "sweep_at": "double precision",
}


def _new_value(name: str) -> str:
    if name == "id":
        return "g.new_id"
    if name == "fields":
        return "CAST(g.fields AS jsonb)"
    return "now() + make_interval(secs => g.sweep_at)" if name == "sweep_at" else f"g.{name}"


# New rows as one JSON array, because asyncpg takes longer for an array of each column. Without an id the sequence draws
# one.
_GIVEN = f"""
    {ORGANISATION_CTE}, given AS MATERIALIZED (
        SELECT o.id AS organisation_id, coalesce(n.id, nextval('schedules_id_seq')) AS new_id, n.*
        FROM o CROSS JOIN LATERAL jsonb_to_recordset($2::jsonb) AS n (
            {", ".join(f"{name} {kind}" for name, kind in _NEW.items())}, position int,
            event_id uuid, topic text, key text, body text, traceparent text)
    ),
    added AS (
        INSERT INTO schedules (organisation_id, kind, {", ".join(_NEW)}) OVERRIDING SYSTEM VALUE
        SELECT g.organisation_id, 'single', {", ".join(_new_value(name) for name in _NEW)} FROM given g
        WHERE NOT EXISTS (SELECT FROM organisations c WHERE c.organisation_id = g.organisation_id AND c.closed)
        RETURNING {_SHOWN}
    )
"""
_ADD = Statement(f"WITH {_GIVEN} SELECT a.* FROM given g JOIN added a ON a.id = g.new_id ORDER BY g.position")
# Schedules and the events of their first dispatch in one statement.
_ADD_DISPATCHED = Statement(
    f"""
    WITH {_GIVEN}, published AS (
        INSERT INTO outbox (event_id, topic, key, body, request_id, traceparent)
        SELECT g.event_id, g.topic, g.key, convert_to(g.body, 'UTF8'), g.request_id, g.traceparent
        FROM given g JOIN added a ON a.id = g.new_id ORDER BY g.position
    )
    SELECT id FROM added
    """,
    wakes=OUTBOX,
)
_DRAW_IDS = Statement(f"SELECT nextval('schedules_id_seq') AS id FROM {ORGANISATION}, generate_series(1, $2::int)")
# The single schedules of some days without cancelled ones. Days begin at whole quarters of an hour in every time zone,
# so the counter's quarters give their exact number.
DAYS = PagedList(
    columns=_SHOWN,
    source="schedules",
    where="organisation_id = o.id AND kind = 'single' AND group_id IS NULL AND status <> 'cancelled'"
    " AND scheduled_time >= $8 AND scheduled_time < $9",
    order=("scheduled_time", "id"),
    types=("timestamptz", "bigint"),
    total="SELECT coalesce(sum(total), 0)::bigint AS total, coalesce(sum(changes), 0)::bigint AS changes"
    " FROM schedule_counts WHERE organisation_id = o.id AND quarter >= $8 AND quarter < $9",
)
_IN_DAYS = """schedules WHERE organisation_id = o.id AND kind = 'single' AND group_id IS NULL
    AND status = ANY ($4::text[]) AND scheduled_time >= $5 AND scheduled_time < $6"""
_WITH_STATUSES = Statement(
    f"""
    SELECT t.total, r.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT count(*) AS total FROM {_IN_DAYS}) t
    LEFT JOIN LATERAL (
        SELECT {_SHOWN} FROM {_IN_DAYS} ORDER BY scheduled_time DESC, id DESC LIMIT $2 OFFSET $3
    ) r ON true
    ORDER BY r.scheduled_time DESC, r.id DESC
    """
)
_READ = Statement(
    f"""
    SELECT s.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (
        SELECT {_SHOWN} FROM shown_schedules WHERE id = $2 AND organisation_id = o.id AND kind <> 'batch'
    ) s
    """
)
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
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
    SELECT EXISTS (SELECT FROM schedules m
                   WHERE m.organisation_id = b.organisation_id AND m.contact_id = CAST(:contact_id AS bigint)
                     AND m.kind = 'batch_message' AND m.batch_id = b.id)
    FROM schedules b WHERE b.id = :batch_id
    """
)
_IS_FANNED_OUT = text("SELECT fanned_out_at IS NOT NULL FROM schedules WHERE id = :batch_id")
_ADVANCE_NEXT_DUE = text("UPDATE schedules SET next_due_at = least(next_due_at, :at) WHERE id = :id")
_CANCEL = text("UPDATE schedules SET status = 'cancelled', updated_by = :user_id, updated_at = now() WHERE id = :id")
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
    WHERE id = ANY(ARRAY(
        SELECT id FROM schedules
        WHERE organisation_id = ANY(CAST(:organisations AS text[]))
          AND (kind = 'single' AND status = 'pending' OR kind = 'batch' AND status IN ({sql_list(OPEN)}))
        FOR UPDATE))
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


async def add(tenant: Tenant, rows: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
    """Insert single schedules and return their shown columns in order. Return none of a closed organisation.

    The values are those of `_NEW`; `sweep_at` is in seconds from now (None: no sweep), and `id` may be missing.
    """
    given = [{**row, "position": position} for position, row in enumerate(rows)]
    return await tenant.fetch(_ADD, orjson.dumps(given).decode())


async def add_dispatched(tenant: Tenant, rows: Sequence[tuple[Mapping[str, Any], ScheduleDue]]) -> bool:
    """Insert single schedules with the events of their first dispatch. Return False in a closed organisation."""
    names = ("event_id", "topic", "key", "body", "request_id", "traceparent")
    given = []
    for position, (values, event) in enumerate(rows):
        columns = dict(zip(names, outbox_row(event), strict=True))
        given.append({**values, **columns, "body": columns["body"].decode(), "position": position})
    return bool(await tenant.fetch(_ADD_DISPATCHED, orjson.dumps(given).decode()))


async def draw_ids(tenant: Tenant, count: int) -> list[int]:
    """Draw ids of new schedules from their sequence."""
    return [row["id"] for row in await tenant.fetch(_DRAW_IDS, count)]


async def read(tenant: Tenant, schedule_id: int) -> Mapping[str, Any]:
    """Return the shown columns of a single schedule or a message of a batch. Raises NotFound."""
    row: Mapping[str, Any] | None = await tenant.fetch_row(_READ, schedule_id)
    if row is None:
        raise NotFound
    return row


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


async def has_message(session: AsyncSession, batch_id: int, contact_id: int) -> bool:
    """Return whether the contact has a message in the batch, which the caller has locked."""
    return bool(await session.scalar(_HAS_MESSAGE, {"batch_id": batch_id, "contact_id": contact_id}))


async def is_fanned_out(session: AsyncSession, batch_id: int) -> bool:
    """Return whether all messages of the batch, which the caller has locked, are created."""
    return bool(await session.scalar(_IS_FANNED_OUT, {"batch_id": batch_id}))


async def advance_next_due(session: AsyncSession, batch_id: int, at: datetime) -> None:
    """Make the batch due at that time, if it is not due earlier, because one of its messages is."""
    await session.execute(_ADVANCE_NEXT_DUE, {"id": batch_id, "at": at})


async def cancel(session: AsyncSession, schedule_id: int, user_id: int | None) -> None:
    """Set a schedule to cancelled."""
    await session.execute(_CANCEL, {"id": schedule_id, "user_id": user_id})


async def page_of_days(
    tenant: Tenant, start: datetime | None, end: datetime | None, page: Page
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Return a page of single schedules but cancelled ones, the latest first, and how many there are.

    Their times are from `start` until before `end`; None is no bound.
    """
    return await DAYS.read(tenant, page, start or _FIRST, end or _LAST)


async def page_with_statuses(
    tenant: Tenant, start: datetime | None, end: datetime | None, statuses: Sequence[ScheduleStatus], page: Page
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Return a page of single schedules with these statuses, the latest first, and how many there are."""
    names = [status.value for status in statuses]
    rows = await tenant.fetch(_WITH_STATUSES, page.limit, page.offset, names, start or _FIRST, end or _LAST)
    return [row for row in rows if row["id"] is not None], rows[0]["total"]


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
