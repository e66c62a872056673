"""Every statement on imports: their files, their progress and their reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.paging import Page
from contacts.imports.schemas import ImportOptions
from contacts.models import ClaimedImport, ImportRow, ImportStatus

LEASE = "interval '30 seconds'"
_SHOWN = "id, status, rows_read, rows_total, report, {} AS more_errors, error, file_name, dry_run, created_at"
_ADD = text(
    f"""
    INSERT INTO imports (created_by, request_id, file_name, dry_run, group_id, update_existing, status,
                         rows_read, rows_total, report, more_errors, file, finished_at)
    VALUES (:created_by, :request_id, :file_name, :dry_run, :group_id, :update_existing, CAST(:status AS text),
            CAST(:rows AS bigint), CAST(:rows_total AS bigint), CAST(:report AS json), CAST(:more_errors AS json),
            CAST(:file AS bytea), CASE WHEN CAST(:rows_total AS bigint) IS NOT NULL THEN now() END)
    RETURNING {_SHOWN.format("more_errors")}
    """  # noqa: S608  # constants of this file
)
_READ = text(f"SELECT {_SHOWN.format('more_errors')} FROM imports WHERE id = :id")  # noqa: S608
_PAGE = text(
    f"SELECT {_SHOWN.format('NULL')} FROM imports ORDER BY id DESC LIMIT :limit OFFSET :offset"  # noqa: S608
)
_COUNT = text("SELECT count(*) FROM imports")
_IS_CLOSED = text("SELECT EXISTS (SELECT FROM organisations WHERE NOT is_active)")  # a tenant sees one organisation
_COUNT_OPEN = text("SELECT count(*) FROM imports WHERE status IN ('queued', 'running')")

# Two workers that claim at the same time would both find a free place.
_LOCK_CLAIMS = text("SELECT pg_advisory_xact_lock(hashtextextended('contacts.imports', 0))")
_GIVE_UP = text(
    """
    UPDATE imports SET status = 'failed', error = :error, file = NULL, lease_until = NULL, finished_at = now()
    WHERE status = 'running' AND lease_until < now() AND tries >= :max_tries
    """
)
# An import is free if it is queued, or if its worker does not renew the lease any more. The organisation whose last
# import began first is next, so that one with many imports does not delay the others.
_CLAIM = text(
    f"""
    WITH leased AS (SELECT organisation_id FROM imports WHERE status = 'running' AND lease_until >= now()),
    next AS (
        SELECT i.organisation_id, i.id FROM imports i
        WHERE (i.status = 'queued' OR (i.status = 'running' AND i.lease_until < now()))
          AND (SELECT count(*) FROM leased) < :at_once
          AND i.organisation_id NOT IN (SELECT organisation_id FROM leased)
        ORDER BY (SELECT max(p.claimed_at) FROM imports p WHERE p.organisation_id = i.organisation_id) NULLS FIRST, i.id
        LIMIT 1 FOR UPDATE OF i SKIP LOCKED
    )
    UPDATE imports i
    SET status = 'running', tries = i.tries + 1, claimed_at = clock_timestamp(), rows_read = 0,
        lease_until = now() + {LEASE}
    FROM next WHERE i.organisation_id = next.organisation_id AND i.id = next.id
    RETURNING i.organisation_id, i.id, i.tries, i.created_by, i.request_id, i.dry_run, i.group_id, i.update_existing
    """  # noqa: S608  # a constant
)
_OWN = "organisation_id = :organisation_id AND id = :id AND tries = :tries AND status = 'running'"
_RENEW = text(
    f"""
    UPDATE imports SET rows_read = :rows_read, rows_total = CAST(:rows_total AS bigint),
                       lease_until = now() + {LEASE}
    WHERE {_OWN} RETURNING id
    """  # noqa: S608  # constants of this file
)
_FINISH = text(
    f"""
    UPDATE imports SET status = CAST(:status AS text), rows_read = COALESCE(CAST(:rows AS bigint), rows_read),
        rows_total = COALESCE(CAST(:rows AS bigint), rows_total), report = CAST(:report AS json),
        more_errors = CAST(:more_errors AS json), error = :error,
        file = NULL, lease_until = NULL, finished_at = now()
    WHERE {_OWN} RETURNING id
    """  # noqa: S608  # constants of this file
)
_READ_FILE = text(f"SELECT file FROM imports WHERE {_OWN}")  # noqa: S608
# What an import that is too slow for a request has written is undone, and the transaction goes on. SQLAlchemy's nested
# transactions would wake the loops before the commit.
_SAVE = text("SAVEPOINT import")
_KEEP = text("RELEASE SAVEPOINT import")
_UNDO = text("ROLLBACK TO SAVEPOINT import")


async def add(
    session: AsyncSession,
    options: ImportOptions,
    origin: Mapping[str, Any],
    *,
    file: bytes | None = None,
    report: tuple[int, str, str] | None = None,
) -> ImportRow:
    """Add an import that is queued with its file, or done with its number of rows, its report and its further errors.

    `origin` has `created_by`, `request_id` and `file_name`.
    """
    rows, first, more = report or (None, None, None)
    values = {
        **origin,
        "dry_run": options.dry_run,
        "group_id": options.group_id,
        "update_existing": options.update_existing,
        "status": ImportStatus.QUEUED.value if report is None else ImportStatus.DONE.value,
        "rows": rows or 0,
        "rows_total": rows,
        "report": first,
        "more_errors": more,
        "file": file,
    }
    return ImportRow._make((await session.execute(_ADD, values)).one())


async def get(session: AsyncSession, import_id: int) -> ImportRow:
    """Return an import with all errors. Raises NotFound."""
    row = (await session.execute(_READ, {"id": import_id})).one_or_none()
    if row is None:
        raise NotFound
    return ImportRow._make(row)


async def page(session: AsyncSession, wanted: Page) -> tuple[Sequence[ImportRow], int]:
    """Return a page of imports with their first errors, the newest first, and how many there are."""
    rows = await session.execute(_PAGE, {"limit": wanted.limit, "offset": wanted.offset})
    return [ImportRow._make(row) for row in rows], int(await session.scalar(_COUNT) or 0)


async def count_open(session: AsyncSession) -> int:
    """Return how many imports of the organisation are queued or running."""
    return int(await session.scalar(_COUNT_OPEN) or 0)


async def is_organisation_closed(session: AsyncSession) -> bool:
    """Return whether the session's organisation was deleted in Clerk."""
    return bool(await session.scalar(_IS_CLOSED))


async def set_savepoint(session: AsyncSession) -> None:
    """Begin what can be undone while the transaction goes on."""
    await session.execute(_SAVE)


async def end_savepoint(session: AsyncSession, *, keep: bool) -> None:
    """Keep or undo what was written since the savepoint."""
    await session.execute(_KEEP if keep else _UNDO)


async def claim_all_tenants(session: AsyncSession, *, at_once: int, max_tries: int, error: str) -> ClaimedImport | None:
    """Claim the next free import with a lease, or return None. Fail imports that were interrupted `max_tries` times."""
    await session.execute(_LOCK_CLAIMS)
    await session.execute(_GIVE_UP, {"error": error, "max_tries": max_tries})
    row = (await session.execute(_CLAIM, {"at_once": at_once})).one_or_none()
    return None if row is None else ClaimedImport._make(row)


def _own(claimed: ClaimedImport) -> dict[str, Any]:
    return {"organisation_id": claimed.organisation_id, "id": claimed.id, "tries": claimed.tries}


async def renew(session: AsyncSession, claimed: ClaimedImport, rows_read: int, rows_total: int | None) -> bool:
    """Save the progress and renew the lease. Return False when another worker has claimed the import."""
    values = {**_own(claimed), "rows_read": rows_read, "rows_total": rows_total}
    return await session.scalar(_RENEW, values) is not None


async def find_file(session: AsyncSession, claimed: ClaimedImport) -> bytes | None:
    """Return the file, or None when another worker has claimed the import."""
    found: bytes | None = await session.scalar(_READ_FILE, _own(claimed))
    return found


async def finish(
    session: AsyncSession,
    claimed: ClaimedImport,
    *,
    report: tuple[int, str, str] | None = None,
    error: str | None = None,
) -> bool:
    """End the import with its report or its error, and delete its file.

    Return False when another worker has claimed the import.
    """
    rows, first, more = report or (None, None, None)
    values = {
        **_own(claimed),
        "status": ImportStatus.FAILED.value if report is None else ImportStatus.DONE.value,
        "rows": rows,
        "report": first,
        "more_errors": more,
        "error": error,
    }
    return await session.scalar(_FINISH, values) is not None
