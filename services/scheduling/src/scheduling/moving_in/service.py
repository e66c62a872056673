"""Import the templates and schedules of an earlier system. An operator starts it.

A row that was imported before is written again only when it changed. So each page can be repeated.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from common import moved_rows
from common.database import wake_after_commit
from common.moved_rows import CheckedMonth, MovedId, MovedRow, OldId, Written, hash_row
from scheduling.models import DISPATCH, OPEN, ScheduleStatus
from scheduling.moving_in import repository
from scheduling.moving_in.schemas import MovedUsage, ScheduleIn, TemplateIn

TEMPLATE, SCHEDULE, BATCH, BATCH_MESSAGE = "template", "schedule", "batch", "batch_message"
_SENT_HERE = "It was sent, changed or removed here after it was imported."


async def import_templates(session: AsyncSession, system: str, rows: Sequence[TemplateIn]) -> Written:
    """Add templates with version 1, or write a new version of those whose row changed."""
    known = await moved_rows.find(session, system, TEMPLATE, rows)
    new = [row for row in rows if row.old_id not in known]
    changed = [row for row in rows if row.old_id in known and known[row.old_id].hash != hash_row(row)]
    ids = {row.old_id: known[row.old_id].new_id for row in changed}
    if changed:
        await repository.change_templates_all_tenants(session, changed, ids)
    if new:
        ids |= await repository.add_templates_all_tenants(session, new)
    saved = [
        MovedRow(
            kind=TEMPLATE,
            old_id=row.old_id,
            system=system,
            organisation_id=row.organisation_id,
            new_id=ids[row.old_id],
            hash=hash_row(row),
            month=row.month,
        )
        for row in (*new, *changed)
    ]
    await moved_rows.save(session, saved)
    return Written(added=len(new), updated=len(changed))


async def import_schedules(session: AsyncSession, system: str, rows: Sequence[ScheduleIn], *, kind: str) -> Written:
    """Add schedules of one kind, or change those whose row changed. One that was dispatched here stays as it is.

    A batch of the rows gets no messages of its own until `complete_batches`.
    """
    known = await moved_rows.find(session, system, kind, rows)
    new = [row for row in rows if row.old_id not in known]
    changed = [row for row in rows if row.old_id in known and known[row.old_id].hash != hash_row(row.source_values())]
    ids = {row.old_id: known[row.old_id].new_id for row in changed}
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
    return MovedRow(
        kind=kind,
        old_id=row.old_id,
        system=system,
        organisation_id=row.organisation_id,
        new_id=schedule_id,
        hash=hash_row(row.source_values()),
        month=row.month,
        is_compared=row.old_status not in OPEN,
    )


async def complete_batches(
    session: AsyncSession, system: str, organisations: Collection[str], *, after: int, size: int
) -> tuple[int | None, int]:
    """Let a page of batches be sent and finished, now that their messages are written.

    Return the old id to continue after, None after the last page, and how many batches changed.
    """
    wake_after_commit(session, DISPATCH)
    return await repository.complete_batches_all_tenants(session, system, organisations, after=after, size=size)


async def find_new_ids(session: AsyncSession, system: str, kind: str, ids: Collection[OldId]) -> dict[OldId, int]:
    """Return the ids that rows have here, by old id. Rows that were not imported are missing."""
    return await moved_rows.find_new_ids(session, system, kind, ids)


async def count_usage(session: AsyncSession, zones: Mapping[str, str], since: date) -> list[MovedUsage]:
    """Return the parts that earlier systems sent since a month, by month in each organisation's time zone."""
    await moved_rows.allow_long_check(session)
    return await repository.usage_all_tenants(session, zones, since)


async def check(session: AsyncSession, system: str, organisations: Collection[str]) -> list[CheckedMonth]:
    """Return the number and the checksums of the rows that exist here, by kind and month."""
    await moved_rows.allow_long_check(session)
    return await repository.check_all_tenants(session, system, organisations)


async def page_ids(
    session: AsyncSession, system: str, organisations: Collection[str], after: MovedId | None
) -> list[MovedId]:
    """Return a page of old and new ids."""
    return await moved_rows.page_ids(session, system, organisations, after)
