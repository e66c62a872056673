"""An import from an earlier system: where it reads and writes, and what it has counted."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.moved_rows import Written, checksum
from contacts.moving_in.schemas import ContactIn, GroupIn, MemberIn
from cooee.moving_in import conversion
from cooee.moving_in.columns import SourceTable, System
from cooee.moving_in.conversion import ImportContext, PendingCutOver, RowRejected
from cooee.moving_in.counts import Counts, Problems, Progress
from cooee.moving_in.source import Row, Source
from cooee.stack import Stack
from delivery.moving_in.schemas import ConfigIn
from scheduling.models import OPEN
from scheduling.moving_in.schemas import ScheduleIn, TemplateIn

ImportedRow = ContactIn | GroupIn | MemberIn | TemplateIn | ConfigIn | ScheduleIn
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def checksum_of(row: ImportedRow, *, is_merged: bool = False) -> int:
    """Return the checksum of an imported row. The statements of the services' checks compute the same."""
    if isinstance(row, ContactIn):
        texts = () if is_merged else (row.first_name, row.last_name, row.email, row.company)
        return checksum(row.old_id, row.phone, *texts)
    if isinstance(row, GroupIn):
        return checksum(row.old_id, row.name, row.description, int(row.is_active))
    if isinstance(row, TemplateIn):
        return checksum(row.old_id, row.name, row.text, int(row.is_active))
    if isinstance(row, ConfigIn):
        return checksum(row.old_id, row.name, row.value)
    if isinstance(row, MemberIn):
        return checksum(row.old_id)
    moment = (row.scheduled_time - _EPOCH) // timedelta(microseconds=1)
    compared = () if row.old_status in OPEN else (str(row.status), row.message_parts)
    return checksum(row.old_id, row.phone, moment, row.format, *compared)


@dataclass
class ImportRun:
    """An import: where it reads and writes, what it knows, and what it has counted."""

    stack: Stack
    source: Source
    context: ImportContext
    counts: Counts
    problems: Problems
    is_dry_run: bool
    organisation: str | None
    began: float = field(default_factory=time.monotonic)

    @property
    def system(self) -> System:
        """The earlier system."""
        return self.context.system

    @property
    def wanted(self) -> list[int]:
        """The old ids of the organisations to read, or none for all."""
        return list(self.context.organisations) if self.organisation and self.system.has_organisations else []

    @property
    def organisations(self) -> list[str]:
        """The organisations here that rows move to. No row of another one is read or changed."""
        return sorted(set(self.context.organisations.values()))

    def convert(self, kind: str, rows: Sequence[Row], convert: Callable[[Row], Any]) -> list[Any]:
        """Convert the rows of a page, and count those that are rejected or wait for the cut-over."""
        imported = []
        for row in rows:
            self.context.notes.clear()
            try:
                imported.append(convert(row))
            except RowRejected as rejection:
                self.reject(kind, row["id"], str(rejection), _month(row))
            except PendingCutOver:
                self.counts.months[kind, _month(row)].pending_cut_over += 1
            else:
                for note in self.context.notes:
                    self.problems.add(kind, row["id"], "changed", note)
        return imported

    def reject(self, kind: str, old_id: int, reason: str, month: date | None) -> None:
        """Count a rejected row and report it."""
        self.counts.months[kind, month].rejected += 1
        self.problems.add(kind, old_id, "rejected", reason)

    def count(self, kind: str, rows: Sequence[ImportedRow], written: Written) -> None:
        """Count the rows of a page that were imported, with what became of them."""
        self.counts.added += written.added
        self.counts.updated += written.updated
        merged, rejected = set(written.merged), dict(written.rejected)
        for row in rows:
            month: date | None = getattr(row, "month", None)
            if row.old_id in rejected:
                self.reject(kind, row.old_id, rejected[row.old_id], month)
                continue
            counted = self.counts.months[kind, month]
            counted.checksum += checksum_of(row, is_merged=row.old_id in merged)
            if row.old_id in merged:
                counted.merged += 1
                self.problems.add(kind, row.old_id, "merged", "The organisation has another contact with this phone.")
            else:
                counted.imported += 1

    async def write(self, service: str, write: Callable[[AsyncSession], Awaitable[Written]]) -> Written:
        """Write a page in a transaction, or nothing in a dry run."""
        if self.is_dry_run:
            return Written()
        async with self.stack.session(service) as session:
            return await write(session)

    @asynccontextmanager
    async def progress(self, label: str, table: SourceTable, condition: str = "true") -> AsyncIterator[Progress]:
        """Show the progress of reading the rows that meet the condition. `label` names them as the report does."""
        shown = Progress(label, await self.source.count(table, condition))
        yield shown
        shown.show()


def _month(row: Row) -> date | None:
    """Return the month of a row that is not imported, as far as it has one."""
    moment = row.get("scheduled_time") or row.get("created_at")
    if moment is None or not 1990 <= moment.year <= 2100:
        return None
    return conversion.month_of(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
