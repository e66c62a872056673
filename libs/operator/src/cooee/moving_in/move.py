"""An import from an earlier system: where it reads and writes, and what it has counted."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.moved_rows import Written, checksum
from contacts.moving_in.schemas import ContactIn, GroupIn, MemberIn
from cooee.moving_in import conversion
from cooee.moving_in.columns import SourceTable, System
from cooee.moving_in.conversion import Refusal, Waiting, World
from cooee.moving_in.source import Row, Source
from cooee.moving_in.tally import Problems, Progress, Tally
from cooee.stack import Stack
from delivery.moving_in.schemas import ConfigIn
from scheduling.models import OPEN, ScheduleKind
from scheduling.moving_in import service as scheduling
from scheduling.moving_in.schemas import ScheduleIn, TemplateIn

Taken = ContactIn | GroupIn | MemberIn | TemplateIn | ConfigIn | ScheduleIn
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {
    ScheduleKind.SINGLE: scheduling.SCHEDULE,
    ScheduleKind.BATCH: scheduling.BATCH,
    ScheduleKind.BATCH_MESSAGE: scheduling.BATCH_MESSAGE,
}


def checksum_of(row: Taken, *, is_merged: bool = False) -> int:
    """Return the checksum of a taken row. The statements of the services' checks compute the same."""
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
class Move:
    """An import: where it reads and writes, what it knows, and what it has counted."""

    stack: Stack
    source: Source
    world: World
    tally: Tally
    problems: Problems
    is_dry_run: bool
    organisation: str | None

    @property
    def system(self) -> System:
        """The earlier system."""
        return self.world.system

    @property
    def wanted(self) -> list[int]:
        """The old ids of the organisations to read, or none for all."""
        return list(self.world.organisations) if self.organisation and self.system.has_organisations else []

    @property
    def organisations(self) -> list[str]:
        """The organisations here that rows move to. No row of another one is read or changed."""
        return sorted(set(self.world.organisations.values()))

    def convert(self, kind: str, rows: Sequence[Row], convert: Callable[[Row], Any]) -> list[Any]:
        """Convert the rows of a page, and count those that are refused or wait for the cut-over."""
        taken = []
        for row in rows:
            self.world.notes.clear()
            try:
                taken.append(convert(row))
            except Refusal as refusal:
                self.refuse(kind, row["id"], str(refusal), _month(row))
            except Waiting:
                self.tally.months[kind, _month(row)].waiting += 1
            else:
                for note in self.world.notes:
                    self.problems.add(kind, row["id"], "changed", note)
        return taken

    def refuse(self, kind: str, old_id: int, reason: str, month: date | None) -> None:
        """Count a refused row and report it."""
        self.tally.months[kind, month].refused += 1
        self.problems.add(kind, old_id, "refused", reason)

    def count(self, kind: str, rows: Sequence[Taken], written: Written) -> None:
        """Count the rows of a page that were taken, with what became of them."""
        self.tally.added += written.added
        self.tally.updated += written.updated
        merged, refused = set(written.merged), dict(written.refused)
        for row in rows:
            month: date | None = getattr(row, "month", None)
            if row.old_id in refused:
                self.refuse(kind, row.old_id, refused[row.old_id], month)
                continue
            counted = self.tally.months[kind, month]
            counted.checksum += checksum_of(row, is_merged=row.old_id in merged)
            if row.old_id in merged:
                counted.merged += 1
                self.problems.add(kind, row.old_id, "merged", "The organisation has another contact with this phone.")
            else:
                counted.taken += 1

    async def write(self, service: str, take: Callable[[AsyncSession], Awaitable[Written]]) -> Written:
        """Write a page in a transaction, or nothing in a dry run."""
        if self.is_dry_run:
            return Written()
        async with self.stack.session(service) as session:
            return await take(session)

    @asynccontextmanager
    async def progress(self, table: SourceTable, condition: str = "true") -> AsyncIterator[Progress]:
        """Show how the rows of a table, those with a condition, are read."""
        shown = Progress(table.name, await self.source.count(table, condition))
        yield shown
        shown.show()


def _month(row: Row) -> date | None:
    """Return the month of a row that is not taken, as far as it has one."""
    moment = row.get("scheduled_time") or row.get("created_at")
    if moment is None or not 1990 <= moment.year <= 2100:
        return None
    return conversion.month_of(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
