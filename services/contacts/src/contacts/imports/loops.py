"""Run queued imports one by one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from common.database import Database, in_transaction
from common.errors import Invalid, NotFound
from contacts.imports import jobs
from contacts.models import ClaimedImport

log = structlog.get_logger()

_RENEW_S = 2.0  # the lease is 15 times as long


@dataclass(slots=True)
class _Progress:
    """How far the import is, and whether its lease is lost."""

    rows_read: int = 0
    rows_total: int | None = None
    is_lost: bool = False

    def report(self, rows_read: int) -> None:
        """Save the number of rows for the next renewal. Raises LeaseLost."""
        if self.is_lost:
            raise jobs.LeaseLost
        self.rows_read = rows_read


async def run_next_import(database: Database) -> bool:
    """Claim and run the next import. Return whether there was one.

    An import that fails by an error of the system, or whose worker is killed, runs again when its lease has expired.
    """
    async with database.all_tenants() as session:
        claimed = await jobs.claim_import(session)
    if claimed is None:
        return False
    with structlog.contextvars.bound_contextvars(request_id=claimed.request_id):
        try:
            await _run(database, claimed)
        except (Invalid, NotFound) as error:
            async with database.all_tenants() as session:
                await jobs.fail_import(session, claimed, error)
        except jobs.LeaseLost:
            log.warning("import lease lost", import_id=claimed.id)
    return True


async def _run(database: Database, claimed: ClaimedImport) -> None:
    async with database.tenant(claimed.organisation_id) as session:
        file = await jobs.read_file(session, claimed)
    progress = _Progress()
    async with _renewed(database, claimed, progress):
        progress.rows_total = await jobs.count_file_rows(file)
        async with database.tenant(claimed.organisation_id) as session:
            await jobs.run_import(session, claimed, file, progress.report)


@asynccontextmanager
async def _renewed(database: Database, claimed: ClaimedImport, progress: _Progress) -> AsyncIterator[None]:
    """Renew the lease and save the progress in transactions of their own, until the block ends."""
    task = asyncio.create_task(_renew(database, claimed, progress))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _renew(database: Database, claimed: ClaimedImport, progress: _Progress) -> None:
    while not progress.is_lost:
        await asyncio.sleep(_RENEW_S)
        kept = await in_transaction(
            database.all_tenants,
            partial(jobs.renew_lease, claimed=claimed, rows_read=progress.rows_read, rows_total=progress.rows_total),
        )
        progress.is_lost = not kept
