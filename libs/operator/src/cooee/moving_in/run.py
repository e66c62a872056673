"""Run an import and report it, and the arguments that the imports of all earlier systems have."""

import argparse
import os
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from common.moved_rows import CheckedMonth, MovedId
from contacts.moving_in import service as contacts
from cooee.arguments import read_positive
from cooee.command import Report
from cooee.errors import ExitCode
from cooee.moving_in.columns import System
from cooee.moving_in.conversion import World
from cooee.moving_in.move import Move
from cooee.moving_in.source import PAGE, open_source
from cooee.moving_in.steps import STEPS
from cooee.moving_in.tally import Line, Problems, Tally, write_csv
from cooee.output import quantity, table
from cooee.stack import STORES, Stack
from delivery.moving_in import service as delivery
from scheduling.moving_in import service as scheduling

_SERVICES = {"contacts": contacts, "scheduling": scheduling, "delivery": delivery}
_HEADINGS = ("table", "month", "source", "taken", "merged", "waiting", "refused", "here", "agrees")


async def run_import(
    stack: Stack, options: argparse.Namespace, system: System, take_people: Callable[[Move], Awaitable[None]]
) -> Report:
    """Take the rows of an earlier system, compare the rows here with the source, and report both.

    `take_people` takes or finds the organisations and users that the rows refer to.
    """
    world = World(
        system=system, now=datetime.now(UTC), is_cut_over=options.cut_over, sends_overdue=options.send_overdue
    )
    problems = Problems(options.report)
    try:
        async with open_source(options.source, system, options.table_prefix, options.page_rows) as source:
            move = Move(
                stack=stack,
                source=source,
                world=world,
                tally=Tally(),
                problems=problems,
                is_dry_run=options.dry_run,
                organisation=options.organisation,
            )
            for step in (take_people, *STEPS):
                await step(move)
            _report_unknown_users(move)
            if move.is_dry_run:
                return _report(move, move.tally.lines([]), options)
            await _set_usage(move)
            lines = move.tally.lines(await _check(move))
            if options.map_out:
                await _write_map(move, options.map_out)
            return _report(move, lines, options)
    finally:
        problems.close()


def _report_unknown_users(move: Move) -> None:
    """Report the users that rows refer to and who are not known here."""
    for old_id, number in sorted(move.world.unknown_users.items()):
        reason = f"There is no user here for it: {quantity(number, 'reference')} to it became null."
        move.problems.add("user", old_id, "unknown", reason)


async def _set_usage(move: Move) -> None:
    """Count what was sent in this and the last month against the limits."""
    month = move.world.now.date().replace(day=1)
    since = (month - timedelta(days=1)).replace(day=1)
    async with move.stack.session("delivery") as session:
        zones = await delivery.get_zones(session, move.organisations)
    async with move.stack.session("scheduling") as session:
        usage = await scheduling.count_usage(session, zones, since)
    async with move.stack.session("delivery") as session:
        await delivery.set_usage(session, usage)


async def _check(move: Move) -> list[CheckedMonth]:
    checked: list[CheckedMonth] = []
    for name in STORES:
        async with move.stack.session(name) as session:
            checked += await _SERVICES[name].check(session, move.system.name, move.organisations)
    return checked


async def _write_map(move: Move, path: Path) -> None:
    """Write the new id of each row that was taken."""
    file, writer = write_csv(path, ("kind", "old_id", "organisation", "new_id"))
    with file:
        for name in STORES:
            after: MovedId | None = None
            page = [MovedId("", 0, "", 0)]
            while page:
                async with move.stack.session(name) as session:
                    page = await _SERVICES[name].page_ids(session, move.system.name, move.organisations, after)
                writer.writerows(page)
                after = page[-1] if page else None


def _report(move: Move, lines: list[Line], options: argparse.Namespace) -> Report:
    is_incomplete = move.problems.numbers["refused"] > 0 and not options.allow_refused
    agrees = move.is_dry_run or all(line.agrees for line in lines)
    waiting = sum(line.source.waiting for line in lines)
    document = {
        "organisation_id": move.organisation,
        "dry_run": move.is_dry_run,
        "cut_over": move.world.is_cut_over,
        "added": move.tally.added,
        "updated": move.tally.updated,
        "waiting": waiting,
        "agrees": agrees,
        "problems": dict(move.problems.numbers),
        "first_problems": move.problems.first,
        "tables": [_line_document(line, is_dry_run=move.is_dry_run) for line in lines],
    }
    shown = [
        *table(_HEADINGS, (_cells(line, is_dry_run=move.is_dry_run) for line in lines)),
        *_sentences(move, waiting),
    ]
    if not agrees:
        shown.append("the rows here do not agree with the source: see the lines with NO")
    return Report(document, shown, ExitCode.FOUND if is_incomplete or not agrees else ExitCode.OK)


def _line_document(line: Line, *, is_dry_run: bool) -> dict[str, Any]:
    return {
        "table": line.kind,
        "month": line.month and f"{line.month:%Y-%m}",
        "source_rows": line.source.rows,
        "taken": line.source.taken,
        "merged": line.source.merged,
        "waiting": line.source.waiting,
        "refused": line.source.refused,
        "source_checksum": str(line.source.checksum),
        "rows": None if is_dry_run else line.rows,
        "checksum": None if is_dry_run else str(line.checksum),
        "agrees": None if is_dry_run else line.agrees,
    }


def _cells(line: Line, *, is_dry_run: bool) -> tuple[object, ...]:
    counted = line.source
    here = ("", "") if is_dry_run else (line.rows, "yes" if line.agrees else "NO")
    month = f"{line.month:%Y-%m}" if line.month else ""
    return (line.kind, month, counted.rows, counted.taken, counted.merged, counted.waiting, counted.refused, *here)


def _sentences(move: Move, waiting: int) -> Iterable[str]:
    if move.is_dry_run:
        yield "nothing was written"
    else:
        yield f"{quantity(move.tally.added, 'row')} added, {quantity(move.tally.updated, 'row')} updated"
    if waiting:
        yield f"{quantity(waiting, 'row')} may still be sent by {move.system.name} and wait for --cut-over"
    for problem in move.problems.first:
        yield "{table} {id}: {outcome}: {reason}".format(**problem)
    total = sum(move.problems.numbers.values())
    if total > len(move.problems.first):
        yield f"and {total - len(move.problems.first):,} more: --report FILE has all"


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
    parser.add_argument("--cut-over", action="store_true", help=f"{name} is stopped: take what is pending, too")
    parser.add_argument(
        "--send-overdue", action="store_true", help="send pending schedules whose time has passed, not fail them"
    )
    parser.add_argument(
        "--report", type=_read_file, metavar="FILE", help="a CSV file of rows refused, merged or changed"
    )
    parser.add_argument("--map-out", type=_read_file, metavar="FILE", help="a CSV file of old and new ids")
    parser.add_argument("--allow-refused", action="store_true", help="exit with 0 although rows were refused")
    parser.add_argument("--page-rows", type=read_positive, default=PAGE, help=f"rows that are read at once ({PAGE})")
    parser.set_defaults(table_prefix=system.prefix)
