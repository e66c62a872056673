"""The command `actions`: list what operators did, and why."""

import argparse
from typing import Any

from contacts.models import OperatorActionRow
from contacts.operator_actions import service
from cooee.arguments import add_limit, read_positive
from cooee.command import Command, Report
from cooee.output import show_time, table
from cooee.paging import take_page
from cooee.stack import Stack

_HEADINGS = ("id", "begun", "action", "operator", "organisation", "outcome", "reason", "arguments")


async def list_actions(stack: Stack, options: argparse.Namespace) -> Report:
    """List what operators did, the newest first, with the reason and the outcome.

    Each changing command adds a row before it begins and one after it ended, and no role of the database may change
    them. An action without an outcome is under way, or was killed.
    """
    async with stack.session("contacts") as session:
        rows = await service.list_actions(
            session,
            options.limit + 1,
            before=options.before,
            organisation_id=options.organisation,
            operator=options.operator,
        )
    shown, last = take_page(rows, options.limit)
    following = last and last.id
    lines = table(_HEADINGS, map(_cells, shown)) if shown else ["no actions"]
    if following is not None:
        lines.append(f"for older ones add --before {following}")
    return Report({"actions": [row._asdict() for row in shown], "next": following}, lines)


def _cells(row: OperatorActionRow) -> tuple[object, ...]:
    outcome = f"{row.outcome} ({row.exit_code})" if row.outcome else "not ended"
    arguments = ", ".join(f"{name}={value}" for name, value in row.arguments.items())
    who: tuple[Any, ...] = (row.operator, row.organisation_id, outcome, row.reason, arguments)
    return str(row.id), show_time(row.begun_at), row.action, *who


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--organisation", help="only those for this organisation, org_…")
    parser.add_argument("--operator", help="only those of this operator")
    add_limit(parser)
    parser.add_argument("--before", type=read_positive, metavar="ID", help="only those before the action with this id")


COMMAND = Command("actions", "list what operators did, and why", list_actions, _add_arguments)
