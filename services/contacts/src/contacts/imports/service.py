"""Import contacts from a CSV file in one transaction: valid rows are written, the others are listed with reasons."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import BinaryIO

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from contacts.contacts import service as contacts_service
from contacts.errors import PhoneExists
from contacts.groups import service as groups_service
from contacts.imports.csv_file import MAX_PROBLEMS, Batch, ContactsFile, Problem
from contacts.imports.schemas import ImportOptions

BATCH_ROWS = 2000
_REPEATED = "This phone number is in the file more than once."


@dataclass(slots=True)
class ImportResult:
    """The numbers of rows by result, and the first `MAX_PROBLEMS` problems in the order of the rows."""

    total: int = 0
    imported: int = 0
    updated: int = 0
    failed: int = 0
    problems: list[Problem] = field(default_factory=list)


async def import_contacts(
    session: AsyncSession, caller: Caller, file: BinaryIO, options: ImportOptions
) -> ImportResult:
    """Import every valid row of a CSV file. The caller has begun the import (`contacts.service.begin_import`).

    A thread reads the file batch by batch, so that other requests are answered meanwhile. Raises NotCsv, and for the
    group NotFound and Invalid.
    """
    contacts_file = await asyncio.to_thread(ContactsFile, file)
    if options.group_id is not None:
        await groups_service.require_active(session, options.group_id, "group_id")
    trial = await session.begin_nested() if options.dry_run else None
    result = ImportResult()
    async with aclosing(_batches(contacts_file)) as batches:
        async for batch in batches:
            refused = await _write_batch(session, caller, batch, options=options, result=result)
            result.total += batch.total
            result.failed += batch.failed + len(refused)
            problems = sorted(batch.problems + refused, key=lambda problem: problem.row)
            result.problems += problems[: MAX_PROBLEMS - len(result.problems)]
    if trial is not None:
        await trial.rollback()
    return result


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


async def _write_batch(
    session: AsyncSession, caller: Caller, batch: Batch, *, options: ImportOptions, result: ImportResult
) -> list[Problem]:
    """Write a batch and count its rows in `result`. Return the problems of the rows that were refused."""
    repeated = batch.remove_repeated()
    refused = [_refuse(number, phone, _REPEATED) for number, phone in repeated]
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
            refused.append(_refuse(batch.numbers[index], batch.given_phones[index], sentence))
        elif outcome.was_active:
            updated += 1
    result.updated += updated
    result.imported += len(batch.numbers) + len(repeated) - len(refused) - updated
    contact_ids = [outcome.contact_id for outcome in written if outcome.contact_id is not None]
    if options.group_id is not None and contact_ids:
        await groups_service.add_imported(session, options.group_id, contact_ids)
    return refused


def _refuse(row: int, given_phone: str, error: str) -> Problem:
    return Problem(row=row, column="phone", value=given_phone, error=error)
