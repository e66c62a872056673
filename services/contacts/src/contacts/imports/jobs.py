"""Imports that a worker runs: claimed with a lease, applied exactly once, however often a worker is killed."""

import asyncio
import io
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import AppError
from contacts.contacts import service as contacts_service
from contacts.errors import OrganisationClosed
from contacts.imports import repository, service
from contacts.imports.csv_file import count_rows
from contacts.imports.schemas import ImportOptions
from contacts.models import ClaimedImport

AT_ONCE = 2  # imports that all workers together run at once
_MAX_TRIES = 5
_INTERRUPTED = "The import was interrupted too often, and nothing was written. Split the file into smaller files."


class LeaseLost(Exception):
    """Another worker has claimed the import, because this one did not renew its lease in time."""


async def claim_import(session: AsyncSession) -> ClaimedImport | None:
    """Claim the next import, or return None. One import of an organisation runs at a time, and `AT_ONCE` in all."""
    return await repository.claim_all_tenants(session, at_once=AT_ONCE, max_tries=_MAX_TRIES, error=_INTERRUPTED)


async def read_file(session: AsyncSession, claimed: ClaimedImport) -> io.BytesIO:
    """Return the stored file. Raises LeaseLost."""
    content = await repository.find_file(session, claimed)
    if content is None:
        raise LeaseLost
    return io.BytesIO(content)


async def count_file_rows(file: io.BytesIO) -> int | None:
    """Return the number of rows of the file, or None when counting takes too long. Raises NotCsv."""
    total = await asyncio.to_thread(count_rows, file)
    file.seek(0)
    return total


async def renew_lease(session: AsyncSession, claimed: ClaimedImport, rows_read: int, rows_total: int | None) -> bool:
    """Save the progress of an import and renew its lease. Return False when another worker has claimed it."""
    return await repository.renew(session, claimed, rows_read, rows_total)


async def run_import(
    session: AsyncSession, claimed: ClaimedImport, file: io.BytesIO, on_progress: Callable[[int], None]
) -> None:
    """Import the file and save the report, in one transaction of the organisation.

    Raises LeaseLost, OrganisationClosed, NotCsv, for the group NotFound and Invalid, and what `on_progress` raises.
    """
    options = ImportOptions(dry_run=claimed.dry_run, group_id=claimed.group_id, update_existing=claimed.update_existing)
    caller = Caller(organisation_id=claimed.organisation_id, user_id=claimed.created_by, role="system")
    await contacts_service.begin_long_import(session)
    if await repository.is_organisation_closed(session):
        raise OrganisationClosed
    await repository.set_savepoint(session)
    report = await service.import_contacts(session, caller, file, options, on_progress=on_progress)
    await repository.end_savepoint(session, keep=not options.dry_run)
    if not await repository.finish(session, claimed, report=service.split_report(report)):
        raise LeaseLost


async def fail_import(session: AsyncSession, claimed: ClaimedImport, error: AppError) -> None:
    """Save why the import cannot be done. Nothing of it was written."""
    sentences = [sentence for field in error.fields.values() for sentence in field]
    await repository.finish(session, claimed, error=" ".join(sentences) or error.detail)
