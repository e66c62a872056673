"""Import the templates and schedules of an earlier system. An operator starts it.

A row that was imported before is written again only when it changed. So each page can be repeated.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from common import moved_rows
from common.database import wake_after_commit
from common.moved_rows import CheckedMonth, MovedRow, Written, moved_row
from scheduling.models import DISPATCH, OPEN, ScheduleStatus
from scheduling.moving_in import repository
from scheduling.moving_in.schemas import MovedUsage, ScheduleIn, TemplateIn

TEMPLATE, SCHEDULE, BATCH, BATCH_MESSAGE = "template", "schedule", "batch", "batch_message"
_SENT_HERE = "It was sent, changed or removed here after it was imported."


async def import_templates(session: AsyncSession, system: str, rows: Sequence[TemplateIn]) -> Written:
    """Add templates with version 1, or write a new version of those whose row changed."""
    page = await moved_rows.split_rows(session, system, TEMPLATE, rows)
    new, changed, ids = page.new, page.changed, page.changed_ids
    if changed:
        await repository.change_templates_all_tenants(session, changed, ids)
    if new:
        ids |= await repository.add_templates_all_tenants(session, new)
    saved = [moved_row(system, TEMPLATE, row, ids[row.old_id]) for row in (*new, *changed)]
    await moved_rows.save(session, saved)
    return Written(added=len(new), updated=len(changed))


async def import_schedules(session: AsyncSession, system: str, rows: Sequence[ScheduleIn], *, kind: str) -> Written:
    """Add schedules of one kind, or change those whose row changed. One that was dispatched here stays as it is.

    A batch of the rows gets no messages of its own until `complete_batches`.
    """
    page = await moved_rows.split_rows(session, system, kind, rows)
    new, changed, ids = page.new, page.changed, page.changed_ids
    written = await repository.change_schedules_all_tenants(session, changed, ids) if changed else set()
    if new:
        ids |= await repository.add_schedules_all_tenants(session, new)
    imported = new + [row for row in changed if ids[row.old_id] in written]
    await moved_rows.save(session, [_moved(system, kind, row, ids[row.old_id]) for row in imported])
    if any(row.status == ScheduleStatus.PENDING for row in imported):
        wake_after_commit(session, DISPATCH)
    rejected = tuple((row.old_id, _SENT_HERE) for row in changed if ids[row.old_id] not in written)
    return Written(added=len(new), updated=len(written), rejected=rejected)


def _moved(system: str, kind: str, row: ScheduleIn, schedule_id: int) -> MovedRow:
    """Return what a row became. A schedule whose status may change here is not compared with its row."""
    return moved_row(system, kind, row, schedule_id, is_compared=row.old_status not in OPEN)


async def complete_batches(
    session: AsyncSession, system: str, organisations: Collection[str], *, after: int, size: int
) -> tuple[int | None, int]:
    """Let a page of batches be sent and finished, now that their messages are written.

    Return the old id to continue after, None after the last page, and how many batches changed.
    """
    wake_after_commit(session, DISPATCH)
    return await repository.complete_batches_all_tenants(session, system, organisations, after=after, size=size)


async def count_usage(session: AsyncSession, zones: Mapping[str, str], since: date) -> list[MovedUsage]:
    """Return the parts that earlier systems sent since a month, by month in each organisation's time zone."""
    await moved_rows.allow_long_check(session)
    return await repository.usage_all_tenants(session, zones, since)


async def check(session: AsyncSession, system: str, organisations: Collection[str]) -> list[CheckedMonth]:
    """Return the number and the checksums of the rows that exist here, by kind and month."""
    return await moved_rows.check(session, system, organisations, repository.CHECKS)
