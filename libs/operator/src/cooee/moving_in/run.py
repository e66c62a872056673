"""Run an import and report it, and the arguments that the imports of all earlier systems have."""

import argparse
import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from common import moved_rows
from common.moved_rows import CheckedMonth, MovedId
from contacts.moving_in import service as contacts
from cooee.arguments import read_positive
from cooee.command import Report
from cooee.errors import ExitCode, WrongUsage
from cooee.moving_in.columns import System
from cooee.moving_in.conversion import ImportContext
from cooee.moving_in.counts import Counts, Line, Problems, write_csv
from cooee.moving_in.import_run import ImportRun
from cooee.moving_in.source import PAGE, open_source
from cooee.moving_in.steps import STEPS
from cooee.output import quantity, table
from cooee.stack import STORES, Stack
from delivery.moving_in import service as delivery
from scheduling.moving_in import service as scheduling

_SERVICES = {"contacts": contacts, "scheduling": scheduling, "delivery": delivery}
_HEADINGS = ("table", "month", "source", "imported", "merged", "pending cut-over", "rejected", "here", "agrees")

_REASON_HEADINGS = ("table", "outcome", "rows", "first id", "reason")


async def run_import(
    stack: Stack, options: argparse.Namespace, system: System, import_people: Callable[[ImportRun], Awaitable[None]]
) -> Report:
    """Import the rows of an earlier system, compare the rows here with the source, and report both.

    `import_people` imports or finds the organisations and users that the rows refer to. Raises WrongUsage for options
    that do not fit each other, and what `open_source` raises.
    """
    if options.send_overdue and not options.cut_over:
        raise WrongUsage("--send-overdue: give it with --cut-over, which imports pending messages")
    context = ImportContext(
        system=system, now=datetime.now(UTC), is_cut_over=options.cut_over, sends_overdue=options.send_overdue
    )
    problems = Problems(options.report)
    try:
        async with (
            _reduced_garbage_collection(),
            stack.shared_connections(),
            open_source(
                options.source, system, options.table_prefix, options.page_rows, is_dry_run=options.dry_run
            ) as source,
        ):
            run = ImportRun(
                stack=stack,
                source=source,
                context=context,
                counts=Counts(),
                problems=problems,
                is_dry_run=options.dry_run,
                organisation=options.organisation,
            )
            for step in (import_people, *STEPS):
                await step(run)
            _report_unknown_users(run)
            if run.is_dry_run:
                return _report(run, run.counts.lines([]), options)
            lines = run.counts.lines(await _set_usage_and_check(run))
            if options.map_out:
                await _write_map(run, options.map_out)
            return _report(run, lines, options)
    finally:
        problems.close()


@asynccontextmanager
async def _reduced_garbage_collection() -> AsyncIterator[None]:
    """Run Python's garbage collector rarely and exclude the objects that exist now.

    Each full collection reads all loaded modules. That took 3.4 s of 13 s of CPU for 200,000 rows.
    """
    threshold = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()


def _report_unknown_users(run: ImportRun) -> None:
    """Report the users that rows refer to and who are not known here."""
    for old_id, number in sorted(run.context.unknown_users.items()):
        detail = f"{quantity(number, 'reference')} to it became null."
        run.problems.add("user", old_id, "unknown", "There is no user here for it.", detail=detail)


async def _set_usage_and_check(run: ImportRun) -> list[CheckedMonth]:
    """Set the usage and return the check of the rows here. Raises the first error of the two, which cancels the other.

    The command handles errors by their class, so an error must not stay in an ExceptionGroup.
    """
    try:
        # Both read all schedules and neither needs the other.
        async with asyncio.TaskGroup() as group:
            group.create_task(_set_usage(run))
            checked = group.create_task(_check(run))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return checked.result()


async def _set_usage(run: ImportRun) -> None:
    """Count what was sent in this and the last month against the limits."""
    month = run.context.now.date().replace(day=1)
    since = (month - timedelta(days=1)).replace(day=1)
    async with run.stack.session("delivery") as session:
        zones = await delivery.get_zones(session, run.organisations)
    async with run.stack.session("scheduling") as session:
        usage = await scheduling.count_usage(session, zones, since)
    async with run.stack.session("delivery") as session:
        await delivery.set_usage(session, usage)


async def _check(run: ImportRun) -> list[CheckedMonth]:
    checked: list[CheckedMonth] = []
    for name in STORES:
        async with run.stack.session(name) as session:
            checked += await _SERVICES[name].check(session, run.system.name, run.organisations)
    return checked


async def _write_map(run: ImportRun, path: Path) -> None:
    """Write the new id of each row that was imported."""
    file, writer = write_csv(path, ("kind", "old_id", "organisation", "new_id"))
    with file:
        for name in STORES:
            after: MovedId | None = None
            page = [MovedId("", 0, "", 0)]
            while page:
                async with run.stack.session(name) as session:
                    page = await moved_rows.page_ids(session, run.system.name, run.organisations, after)
                writer.writerows(page)
                after = page[-1] if page else None


def _report(run: ImportRun, lines: list[Line], options: argparse.Namespace) -> Report:
    is_incomplete = run.problems.numbers["rejected"] > 0 and not options.allow_rejected
    agrees = run.is_dry_run or all(line.agrees for line in lines)
    pending = sum(line.source.pending_cut_over for line in lines)
    rows, seconds = sum(line.source.rows for line in lines), max(time.monotonic() - run.began, 0.001)
    document = {
        "organisation_id": run.organisation,
        "dry_run": run.is_dry_run,
        "cut_over": run.context.is_cut_over,
        "added": run.counts.added,
        "updated": run.counts.updated,
        "pending_cut_over": pending,
        "agrees": agrees,
        "problems": dict(run.problems.numbers),
        "first_problems": run.problems.first,
        "reasons": run.problems.by_reason,
        "seconds": round(seconds, 1),
        "rows_per_second": round(rows / seconds),
        "tables": [_line_document(line, is_dry_run=run.is_dry_run) for line in lines],
    }
    shown = [
        *table(_HEADINGS, (_cells(line, is_dry_run=run.is_dry_run) for line in lines)),
        *_sentences(run, pending),
        f"{quantity(rows, 'row')} of the source in {seconds:,.1f} s: {rows / seconds:,.0f} rows/s",
        *_reasons(run, has_report=options.report is not None),
    ]
    if not agrees:
        shown.append("the rows here do not agree with the source: see the lines with NO")
    return Report(document, shown, ExitCode.FOUND if is_incomplete or not agrees else ExitCode.OK)


def _line_document(line: Line, *, is_dry_run: bool) -> dict[str, Any]:
    return {
        "table": line.kind,
        "month": line.month and f"{line.month:%Y-%m}",
        "source_rows": line.source.rows,
        "imported": line.source.imported,
        "merged": line.source.merged,
        "pending_cut_over": line.source.pending_cut_over,
        "rejected": line.source.rejected,
        "source_checksum": str(line.source.checksum),
        "rows": None if is_dry_run else line.rows,
        "checksum": None if is_dry_run else str(line.checksum),
        "agrees": None if is_dry_run else line.agrees,
    }


def _cells(line: Line, *, is_dry_run: bool) -> tuple[object, ...]:
    counted = line.source
    here = ("", "") if is_dry_run else (line.rows, "yes" if line.agrees else "NO")
    month = f"{line.month:%Y-%m}" if line.month else ""
    return (
        line.kind,
        month,
        counted.rows,
        counted.imported,
        counted.merged,
        counted.pending_cut_over,
        counted.rejected,
        *here,
    )


def _sentences(run: ImportRun, pending: int) -> Iterable[str]:
    if run.is_dry_run:
        yield "nothing was written"
    else:
        yield f"{quantity(run.counts.added, 'row')} added, {quantity(run.counts.updated, 'row')} updated"
    if pending:
        yield f"{quantity(pending, 'row')} may still be sent by {run.system.name} and wait for --cut-over"


def _reasons(run: ImportRun, *, has_report: bool) -> Iterable[str]:
    """Return the table of the reasons, with the number of rows and the id of the first one."""
    found = run.problems.by_reason
    if not found:
        return
    yield ""
    rows = ([one[name.replace(" ", "_")] for name in _REASON_HEADINGS] for one in found)
    yield from table(_REASON_HEADINGS, rows)
    if not has_report:
        yield "--report FILE has a line for each of these rows"


def _read_file(value: str) -> Path:
    """Read the path of a file that is written. An import takes long, so a wrong path must be known before."""
    path = Path(value)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{value!r} cannot be written")
    return path


def add_arguments(parser: argparse.ArgumentParser, system: System) -> None:
    """Add the arguments that the imports of all earlier systems have."""
    name = system.name
    parser.add_argument("--source", required=True, help=f"the database of {name}, postgresql://user:password@host/name")
    parser.add_argument("--dry-run", action="store_true", help="read and check the source, and write nothing")
    parser.add_argument("--cut-over", action="store_true", help=f"{name} is stopped: import what is pending, too")
    parser.add_argument(
        "--send-overdue", action="store_true", help="send pending schedules whose time has passed, not fail them"
    )
    parser.add_argument(
        "--report", type=_read_file, metavar="FILE", help="a CSV file of rows rejected, merged or changed"
    )
    parser.add_argument("--map-out", type=_read_file, metavar="FILE", help="a CSV file of old and new ids")
    parser.add_argument("--allow-rejected", action="store_true", help="exit with 0 although rows were rejected")
    parser.add_argument("--page-rows", type=read_positive, default=PAGE, help=f"rows that are read at once ({PAGE})")
    parser.set_defaults(table_prefix=system.prefix)
