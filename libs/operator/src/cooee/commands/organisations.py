"""The commands `organisations`: list them, show one, find the busiest, or close one."""

import argparse

from contacts.identity import service
from cooee.arguments import add_limit, add_organisation
from cooee.command import Command, Group, Report
from cooee.commands import busiest, organisation
from cooee.errors import ExitCode
from cooee.output import quantity, show_time, table
from cooee.paging import take_page
from cooee.stack import Stack

CLOSE_EFFECTS = (
    "Its members can no longer use it. Its contacts and groups are deleted.",
    "Its pending schedules and batches are cancelled. New messages are refused.",
    "Its queued messages fail as blocked. Requests in flight end normally.",
    "It stays at Clerk: delete it there, too. It cannot be opened again.",
)


async def list_organisations(stack: Stack, options: argparse.Namespace) -> Report:
    """List the organisations by id, closed ones too, with the number of their members."""
    async with stack.session("contacts") as session:
        rows = await service.list_organisations(session, options.limit + 1, options.after)
    shown, last = take_page(rows, options.limit)
    following = last and last.organisation_id
    cells = [
        (row.organisation_id, row.name, row.members, show_time(row.created_at), show_time(row.closed_at))
        for row in shown
    ]
    lines = table(("organisation", "name", "members", "created", "closed"), cells) if cells else ["no organisations"]
    if following is not None:
        lines.append(f"for more add --after {following}")
    return Report({"organisations": [row._asdict() for row in shown], "next": following}, lines)


async def close_organisation(stack: Stack, options: argparse.Namespace) -> Report:
    """Close an organisation, as when it is deleted at Clerk.

    Without --yes nothing is done, and the code is 2.
    """
    async with stack.session("contacts") as session:
        found = await organisation.require_organisation(session, options.organisation)
        is_new = options.yes and await service.close_organisation(session, found.organisation_id)
    whose = f"{found.organisation_id} ({found.name or 'without a name'}, {quantity(found.members, 'member')})"
    document = {"organisation_id": found.organisation_id, "name": found.name, "members": found.members}
    if not found.is_active:
        return Report(document | {"status": "closed_before"}, [f"{whose} was closed {show_time(found.closed_at)}"])
    if not is_new:
        lines = [f"{whose} would be closed.", *CLOSE_EFFECTS, "Nothing was done. Add --yes to close it."]
        return Report(document | {"status": "open"}, lines, ExitCode.USAGE)
    return Report(document | {"status": "closed"}, [f"{whose} is closed.", *CLOSE_EFFECTS])


def _add_list(parser: argparse.ArgumentParser) -> None:
    add_limit(parser)
    parser.add_argument("--after", metavar="ORG", help="only those after this one, by id")


def _add_close(parser: argparse.ArgumentParser) -> None:
    add_organisation(parser)
    parser.add_argument("--yes", action="store_true", help="close it; without it nothing is done")


COMMAND = Group(
    "organisations",
    "list the organisations, show one, or close one",
    (
        Command("list", "list them by id", list_organisations, _add_list),
        organisation.COMMAND,
        busiest.COMMAND,
        Command(
            "close", "close one for good", close_organisation, _add_close, changes=True, effect=" ".join(CLOSE_EFFECTS)
        ),
    ),
)
