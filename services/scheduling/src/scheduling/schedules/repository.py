"""The statements on single schedules and children, as their API needs them."""

# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.paging import Page
from scheduling.models import Schedule, Status

_ADD = text(
    """
    INSERT INTO schedules (organisation_id, kind, status, run, group_id, contact_id, contact_version, own_phone, phone,
                           first_name, last_name, company, name, template_id, template_version, text, message_parts,
                           scheduled_time, format, media_url, subject, hold, sweep_at, waited, created_by,
                           updated_by, request_id)
    SELECT :organisation_id, 'single', :status, :run, CAST(:group_id AS bigint), CAST(:contact_id AS bigint),
           CAST(:contact_version AS bigint), CAST(:own_phone AS boolean), :phone, :first_name, :last_name, :company,
           :name, CAST(:template_id AS bigint), CAST(:template_version AS int), :text, CAST(:message_parts AS int),
           CAST(:scheduled_time AS timestamptz), :format, :media_url, :subject, CAST(:hold AS uuid),
           now() + make_interval(secs => CAST(:sweep_after_s AS double precision)), CAST(:waited AS boolean),
           CAST(:user_id AS bigint), CAST(:user_id AS bigint), :request_id
    WHERE NOT EXISTS (SELECT FROM organisations o WHERE o.organisation_id = :organisation_id AND o.closed)
    RETURNING id
    """
)
# The parent's lock comes first wherever both are taken; dispatch skips what is locked.
_LOCK = text(
    """
    SELECT id FROM schedules
    WHERE id = :id OR id = (SELECT parent_id FROM schedules WHERE id = :id)
    ORDER BY kind = 'child', id FOR UPDATE
    """
)
_FIND = text("SELECT * FROM shown_schedules WHERE id = :id AND kind <> 'parent'")
_UPDATE = text(
    """
    UPDATE schedules
    SET contact_id = :contact_id, contact_version = :contact_version, own_phone = :own_phone, phone = :phone,
        first_name = :first_name, last_name = :last_name, company = :company, name = :name,
        template_id = :template_id, template_version = :template_version, text = :text, format = :format,
        media_url = :media_url, subject = :subject, scheduled_time = :scheduled_time,
        group_id = CASE WHEN kind = 'single' THEN CAST(:group_id AS bigint) END, updated_by = :user_id,
        updated_at = now()
    WHERE id = :id
    """
)
_HAS_CHILD = text(
    """
    SELECT EXISTS (SELECT FROM schedules
                   WHERE kind = 'child' AND parent_id = :parent_id AND contact_id = CAST(:contact_id AS bigint))
    """
)
_WAKE = text("UPDATE schedules SET wake_at = least(wake_at, :at) WHERE id = :id")
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
_COUNT_CHILDREN = text("SELECT count(*) FROM schedules WHERE kind = 'child' AND parent_id = :parent_id")
_PAGE_CHILDREN = text(
    """
    SELECT * FROM shown_schedules
    WHERE id = ANY(ARRAY(SELECT id FROM schedules WHERE kind = 'child' AND parent_id = :parent_id
                         ORDER BY contact_id, id LIMIT :limit OFFSET :offset))
    ORDER BY contact_id, id
    """
)
_OPEN_AGAIN = """
    UPDATE schedules s
    SET status = 'pending', scheduled_time = now(), attempts = 0, error = NULL, failure_category = NULL,
        provider = NULL, sent_time = NULL, delivered_time = NULL, updated_by = :user_id, updated_at = now()
"""
_RETRY = text(f"{_OPEN_AGAIN} WHERE id = :id")
_COUNT_FAILED = text(
    """
    SELECT count(*) FROM schedules
    WHERE kind = 'child' AND parent_id = :parent_id AND status = 'failed'
      AND (:include_unknown OR failure_category <> 'outcome_unknown')
    """
)
_BEGIN_RETRY = text(
    """
    UPDATE schedules
    SET retry_at = now(), retry_by = :user_id, retry_unknown = :include_unknown, retry_cursor = 0
    WHERE id = :parent_id
    """
)
# In the order of their ids, so that one that fails again meanwhile has been passed; nor does one that fails later go.
_RETRY_CHILDREN = text(
    f"""
    WITH p AS MATERIALIZED (
        SELECT id, retry_at, retry_by, retry_unknown, retry_cursor FROM schedules WHERE id = :parent_id
    ), next AS MATERIALIZED (
        SELECT c.id FROM p CROSS JOIN LATERAL (
            SELECT id FROM schedules c
            WHERE c.kind = 'child' AND c.parent_id = p.id AND c.status = 'failed' AND c.id > p.retry_cursor
              AND c.updated_at <= p.retry_at AND (p.retry_unknown OR c.failure_category <> 'outcome_unknown')
            ORDER BY c.id LIMIT :batch FOR UPDATE) c
    ), opened AS (
        {_OPEN_AGAIN.replace(":user_id", "p.retry_by")} FROM p WHERE s.id = ANY(ARRAY(SELECT id FROM next))
    )
    UPDATE schedules
    SET retry_cursor = coalesce((SELECT max(id) FROM next), retry_cursor),
        retry_at = CASE WHEN (SELECT count(*) FROM next) = :batch THEN retry_at END
    WHERE id = :parent_id
    """
)
# A parent that is still pending can change: what a child of it takes away before its time becomes the child's own.
_OWN_CONTENT = text(
    """
    UPDATE schedules c
    SET text = p.text, template_id = p.template_id, template_version = p.template_version, format = p.format,
        media_url = p.media_url, subject = p.subject
    FROM schedules p
    WHERE p.id = :parent_id AND p.status = 'pending' AND c.kind = 'child' AND c.parent_id = p.id
      AND c.status = 'pending' AND c.scheduled_time IS NOT NULL AND c.text IS NULL
    """
)
_SETTLE_CANCELLED = text(
    """
    UPDATE schedules SET status = 'cancelled'
    WHERE id = ANY(ARRAY(
        SELECT c.id FROM schedules p JOIN schedules c ON c.kind = 'child' AND c.parent_id = p.id
        WHERE p.id = :parent_id AND p.status = 'cancelled' AND c.status = 'pending' LIMIT :batch))
    """
)
_REOPEN_PARENT = text(
    """
    UPDATE schedules
    SET child_count = CASE WHEN status = 'cancelled'
                           THEN (SELECT count(*) FROM schedules c WHERE c.kind = 'child' AND c.parent_id = :parent_id)
                           ELSE child_count END,
        expanded_at = CASE WHEN status = 'cancelled' THEN coalesce(expanded_at, now()) ELSE expanded_at END,
        status = CASE WHEN status = 'pending' THEN status ELSE 'processing' END,
        error = NULL, failure_category = NULL, wake_at = least(wake_at, now())
    WHERE id = :parent_id
    """
)
_CANCEL_OF_CLOSED = text(
    """
    UPDATE schedules SET status = 'cancelled', retry_at = NULL, updated_by = NULL, updated_at = now()
    WHERE organisation_id = ANY(CAST(:organisations AS text[]))
      AND (kind = 'single' AND status = 'pending' OR kind = 'parent' AND status IN ('pending', 'processing'))
    """
)
# The expression is that of the index. A changed or retried schedule needs its file as long as a new one.
_USED_MEDIA = text(
    """
    SELECT asked.name FROM unnest(CAST(:names AS text[])) AS asked (name)
    WHERE (SELECT true FROM schedules s
           WHERE s.media_url IS NOT NULL AND substring(s.media_url from '[0-9a-f-]{36}[.][a-z]{3}') = asked.name
             AND (s.status IN ('pending', 'processing') OR greatest(s.scheduled_time, s.updated_at) >= :since)
           LIMIT 1)
    """
)


async def add(session: AsyncSession, values: Mapping[str, Any]) -> int | None:
    """A new single schedule; None in an organisation that is closed.

    Values: the columns of the statement, with user_id and sweep_after_s (None: never).
    """
    return (await session.execute(_ADD, values)).scalar_one_or_none()


async def lock(session: AsyncSession, schedule_id: int) -> None:
    """Locks a single schedule or child, and before it its parent."""
    await session.execute(_LOCK, {"id": schedule_id})


async def get(session: AsyncSession, schedule_id: int) -> Schedule:
    """A single schedule or a child. Raises NotFound."""
    row = (await session.execute(_FIND, {"id": schedule_id})).one_or_none()
    if row is None:
        raise NotFound
    return Schedule(*row)


async def update(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Writes all columns that a person can change. Null text or time of a child: its parent's."""
    await session.execute(_UPDATE, values)


async def has_child(session: AsyncSession, parent_id: int | None, contact_id: int | None) -> bool:
    """Whether the contact has a child in the batch, whose lock the caller holds."""
    return bool(await session.scalar(_HAS_CHILD, {"parent_id": parent_id, "contact_id": contact_id}))


async def wake_parent(session: AsyncSession, parent_id: int, at: datetime) -> None:
    """A child of it may be due at that time already."""
    await session.execute(_WAKE, {"id": parent_id, "at": at})


async def cancel(session: AsyncSession, schedule_id: int, user_id: int | None) -> None:
    await session.execute(_CANCEL, {"id": schedule_id, "user_id": user_id})


async def page(
    session: AsyncSession, start: datetime | None, end: datetime | None, statuses: Sequence[Status], page: Page
) -> tuple[list[Schedule], int]:
    """Single schedules from `start` until before `end`, the latest first, and how many there are."""
    given = {"start": start, "end": end, "statuses": list(statuses)}
    total = await session.scalar(_COUNT, given)
    rows = await session.execute(_PAGE, {**given, "limit": page.limit, "offset": page.offset})
    return [Schedule(*row) for row in rows], int(total or 0)


async def page_of_contact(session: AsyncSession, contact_id: int, page: Page) -> tuple[list[Schedule], int]:
    """A contact's schedules, children too, without cancelled ones, the latest first, and how many there are."""
    total = await session.scalar(_COUNT_OF_CONTACT, {"contact_id": contact_id})
    given = {"contact_id": contact_id, "limit": page.limit, "offset": page.offset}
    rows = await session.execute(_PAGE_OF_CONTACT, given)
    return [Schedule(*row) for row in rows], int(total or 0)


async def page_children(session: AsyncSession, parent_id: int, page: Page) -> tuple[list[Schedule], int]:
    """A batch's children in the order of their contacts' ids, and how many there are by now."""
    total = await session.scalar(_COUNT_CHILDREN, {"parent_id": parent_id})
    given = {"parent_id": parent_id, "limit": page.limit, "offset": page.offset}
    rows = await session.execute(_PAGE_CHILDREN, given)
    return [Schedule(*row) for row in rows], int(total or 0)


async def retry(session: AsyncSession, schedule_id: int, user_id: int | None) -> None:
    """Pending, due now, as if it had never failed."""
    await session.execute(_RETRY, {"id": schedule_id, "user_id": user_id})


async def count_failed(session: AsyncSession, parent_id: int, include_unknown: bool) -> int:
    """How many children of a batch can go again."""
    given = {"parent_id": parent_id, "include_unknown": include_unknown}
    return int(await session.scalar(_COUNT_FAILED, given) or 0)


async def begin_retry(session: AsyncSession, parent_id: int, user_id: int | None, include_unknown: bool) -> None:
    """The children that have failed by now are to go again."""
    given = {"parent_id": parent_id, "user_id": user_id, "include_unknown": include_unknown}
    await session.execute(_BEGIN_RETRY, given)


async def retry_children(session: AsyncSession, parent_id: int, batch: int) -> None:
    """The next of them are pending, due now, as if they had never failed."""
    await session.execute(_RETRY_CHILDREN, {"parent_id": parent_id, "batch": batch})


async def settle_cancelled_children(session: AsyncSession, parent_id: int, batch: int | None = None) -> int:
    """Before a cancelled batch runs again: what was cancelled with it stays so. Settles all or `batch`; how many."""
    result = await session.execute(_SETTLE_CANCELLED, {"parent_id": parent_id, "batch": batch})
    return int(result.rowcount)  # type: ignore[attr-defined]


async def reopen_parent(session: AsyncSession, parent_id: int) -> None:
    """After children were made pending again: the batch runs until none is open; a cancelled one expands no further."""
    await session.execute(_OWN_CONTENT, {"parent_id": parent_id})
    await session.execute(_REOPEN_PARENT, {"parent_id": parent_id})


async def cancel_of_closed_all_tenants(session: AsyncSession, organisations: Sequence[str]) -> None:
    """Cancels what is pending in organisations that were closed; children follow their parents."""
    await session.execute(_CANCEL_OF_CLOSED, {"organisations": list(organisations)})


async def find_used_media_all_tenants(session: AsyncSession, names: Sequence[str], since: datetime) -> list[str]:
    """Those of the files that a schedule names which is open, or had its time or was changed since."""
    return list((await session.scalars(_USED_MEDIA, {"names": list(names), "since": since})).all())
