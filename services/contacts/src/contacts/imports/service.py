"""Import contacts from a CSV file in one transaction: valid rows are written, the others are listed with reasons."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.context import request_id
from common.database import wake_after_commit
from common.paging import Page
from contacts.contacts import service as contacts_service
from contacts.errors import PhoneExists, TooManyImports
from contacts.groups import service as groups_service
from contacts.imports import repository
from contacts.imports.csv_file import MAX_PROBLEMS, Batch, ContactsFile, Problem, refuse_cell
from contacts.imports.csv_rows import RowReader
from contacts.imports.schemas import ImportOptions, ImportProblem, ImportReport
from contacts.models import IMPORTS, ImportRow

BATCH_ROWS = 2000
LISTED_ERRORS = 10  # errors of a report in a list of imports
MAX_OPEN = 50  # imports of an organisation that wait for a worker or run there
_REPEATED = "This phone number is in the file more than once."


class ImportTooSlow(Exception):
    """An import was not done at its deadline."""


@dataclass(slots=True)
class ImportResult:
    """The numbers of rows by result, and the first `MAX_PROBLEMS` problems in the order of the rows."""

    total: int = 0
    imported: int = 0
    updated: int = 0
    failed: int = 0
    problems: list[Problem] = field(default_factory=list)


def check_header(file: BinaryIO) -> None:
    """Raise NotCsv if the file has no phone column, or two columns with one meaning. Leave the file at its start."""
    RowReader(file).close()
    file.seek(0)


async def import_now(
    session: AsyncSession, caller: Caller, file: BinaryIO, options: ImportOptions, *, file_name: str, deadline: float
) -> ImportReport | None:
    """Import every valid row of a CSV file and add the import with its report.

    The caller has begun the import (`contacts.service.begin_import`). `deadline` is a time of the event loop. When the
    import is not done by then, undo it and return None. Raises NotCsv, and for the group NotFound and Invalid.
    """

    def check_deadline(_: int) -> None:
        if asyncio.get_running_loop().time() > deadline:
            raise ImportTooSlow

    await repository.set_savepoint(session)
    try:
        report = await import_contacts(session, caller, file, options, on_progress=check_deadline)
    except ImportTooSlow:
        await repository.end_savepoint(session, keep=False)
        file.seek(0)
        return None
    await repository.end_savepoint(session, keep=not options.dry_run)
    await repository.add(session, options, _origin(caller, file_name), report=split_report(report))
    return report


async def queue_import(
    session: AsyncSession, caller: Caller, file: bytes, options: ImportOptions, *, file_name: str
) -> ImportRow:
    """Store the file for the worker. Raises TooManyImports, and for the group NotFound and Invalid."""
    if options.group_id is not None:
        await groups_service.require_active(session, options.group_id, "group_id")
    if await repository.count_open(session) >= MAX_OPEN:
        raise TooManyImports
    row = await repository.add(session, options, _origin(caller, file_name), file=file)
    wake_after_commit(session, IMPORTS)
    return row


def _origin(caller: Caller, file_name: str) -> dict[str, Any]:
    return {"created_by": caller.user_id, "request_id": request_id(), "file_name": file_name}


async def get_import(session: AsyncSession, import_id: int) -> ImportRow:
    """Return an import. Raises NotFound."""
    return await repository.get(session, import_id)


async def list_imports(session: AsyncSession, page: Page) -> tuple[Sequence[ImportRow], int]:
    """Return a page of imports, the newest first, and how many there are. A report has its first errors only."""
    return await repository.page(session, page)


def split_report(report: ImportReport) -> tuple[int, str, str]:
    """Return the number of rows, the report with its first errors as JSON, and the further errors as JSON.

    A list of imports shows the first errors only, because all errors of a page would be too large.
    """
    shown = report.model_dump(exclude_none=True)
    errors = shown["errors"]
    shown["errors"] = errors[:LISTED_ERRORS]
    return report.total, json.dumps(shown), json.dumps(errors[LISTED_ERRORS:])


async def import_contacts(
    session: AsyncSession,
    caller: Caller,
    file: BinaryIO,
    options: ImportOptions,
    *,
    on_progress: Callable[[int], None],
) -> ImportReport:
    """Import every valid row of a CSV file. Call `on_progress` with the number of rows after each batch.

    A thread reads the file batch by batch, so that other requests are answered meanwhile. Raises NotCsv, for the group
    NotFound and Invalid, and what `on_progress` raises.
    """
    contacts_file = await asyncio.to_thread(ContactsFile, file)
    if options.group_id is not None:
        await groups_service.require_active(session, options.group_id, "group_id")
    result = ImportResult()
    async with aclosing(_batches(contacts_file)) as batches:
        async for batch in batches:
            refused = await _write_batch(session, caller, batch, options=options, result=result)
            result.total += batch.total
            result.failed += batch.failed + len(refused)
            problems = sorted(batch.problems + refused, key=lambda problem: problem.row)
            result.problems += problems[: MAX_PROBLEMS - len(result.problems)]
            on_progress(result.total)
    return ImportReport(
        total=result.total,
        imported=result.imported,
        updated=result.updated if options.update_existing else None,
        failed=result.failed,
        errors=[ImportProblem.model_validate(problem) for problem in result.problems],
        ignored_columns=contacts_file.ignored_columns,
        encoding=contacts_file.encoding,
    )


async def _batches(contacts_file: ContactsFile) -> AsyncGenerator[Batch, None]:
    """Yield the batches of the file. The next batch is read while the database writes the last one."""
    reading = asyncio.ensure_future(asyncio.to_thread(contacts_file.next_batch, BATCH_ROWS))
    try:
        while (batch := await reading) is not None:
            reading = asyncio.ensure_future(asyncio.to_thread(contacts_file.next_batch, BATCH_ROWS))
            yield batch
    finally:
        # The file must stay open until the thread that reads it has ended, and a thread cannot be cancelled.
        await asyncio.gather(reading, return_exceptions=True)
        contacts_file.close()


async def _write_batch(
    session: AsyncSession, caller: Caller, batch: Batch, *, options: ImportOptions, result: ImportResult
) -> list[Problem]:
    """Write a batch and count its rows in `result`. Return the problems of the rows that were refused."""
    repeated = batch.remove_repeated()
    refused = [refuse_cell(number, "phone", phone, _REPEATED) for number, phone in repeated]
    if not batch.numbers:
        return refused
    written = await contacts_service.import_rows(
        session,
        caller,
        batch.columns,
        update_existing=options.update_existing,
        with_new=options.group_id is not None,
    )
    updated = 0
    for outcome in written:
        if outcome.contact_id is None:
            sentence = _REPEATED if outcome.is_repeated else PhoneExists.sentence
            index = outcome.row - 1
            refused.append(refuse_cell(batch.numbers[index], "phone", batch.given_phones[index], sentence))
        elif outcome.was_active:
            updated += 1
    result.updated += updated
    result.imported += len(batch.numbers) + len(repeated) - len(refused) - updated
    contact_ids = [outcome.contact_id for outcome in written if outcome.contact_id is not None]
    if options.group_id is not None and contact_ids:
        await groups_service.add_imported(session, options.group_id, contact_ids)
    return refused
