"""Retry failed messages: one at a time, or those of a batch, 5,000 in one transaction."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.database import wake_after_commit
from scheduling.batches.service import lock_batch
from scheduling.errors import ContentRemoved, NothingToRetry, OutcomeUnknown
from scheduling.models import DISPATCH, RETRIES, Schedule, ScheduleStatus
from scheduling.retries import repository
from scheduling.schedules.service import get_schedule, lock_schedule

BATCH = 5000


async def retry_schedule(session: AsyncSession, caller: Caller, schedule_id: int, include_unknown: bool) -> Schedule:
    """Make a failed schedule pending and due now. Raises NotFound, NothingToRetry, ContentRemoved, OutcomeUnknown."""
    row = await lock_schedule(session, schedule_id)
    if row.status != ScheduleStatus.FAILED:
        raise NothingToRetry
    if row.content_removed:
        raise ContentRemoved
    if row.failure_category == "outcome_unknown" and not include_unknown:
        raise OutcomeUnknown
    if row.batch_id is not None:
        await repository.cancel_pending(session, row.batch_id)
    await repository.reopen_one(session, schedule_id, caller.user_id)
    wake_after_commit(session, DISPATCH)
    if row.batch_id is not None:
        await repository.reopen_batch(session, row.batch_id)
    return await get_schedule(session, schedule_id)


async def retry_batch(session: AsyncSession, caller: Caller, batch_id: int, include_unknown: bool) -> int:
    """Retry every failed message of a batch: the first now, the rest in a loop. Return how many.

    Raises NotFound and ContentRemoved.
    """
    batch = await lock_batch(session, batch_id)
    if batch.content_removed:
        raise ContentRemoved
    failed = await repository.count_failed(session, batch_id, include_unknown)
    if failed:
        await repository.begin_retry(session, batch_id, caller.user_id, include_unknown)
        await _reopen_next(session, batch_id)
        wake_after_commit(session, RETRIES)
    return failed


async def continue_retries(session: AsyncSession) -> bool:
    """Reopen the next failed messages of a batch whose retry has begun. Return whether there was such a batch."""
    batch_id = await repository.claim_all_tenants(session)
    if batch_id is None:
        return False
    await _reopen_next(session, batch_id)
    return True


async def _reopen_next(session: AsyncSession, batch_id: int) -> None:
    """Reopen the next messages of a locked batch. What was cancelled with the batch is written as cancelled first."""
    if await repository.cancel_pending(session, batch_id, BATCH) < BATCH:
        await repository.reopen_next(session, batch_id, BATCH)
        await repository.reopen_batch(session, batch_id)
        wake_after_commit(session, DISPATCH)
