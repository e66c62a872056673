"""The command `messages`: find messages of an organisation, or by the id that a provider gave them."""

import argparse
from typing import Any

from cooee.arguments import add_limit, add_privacy, read_positive
from cooee.command import Command, Report
from cooee.errors import WrongUsage
from cooee.output import mask, show_time, table
from cooee.paging import take_page
from cooee.stack import Stack
from delivery.messages import service
from delivery.messages.rules import MessageSearch
from delivery.models import FoundMessage

_COLUMNS = ("id", "organisation", "created", "status", "format", "phone", "provider", "provider's id", "failure")


async def find_messages(stack: Stack, options: argparse.Namespace) -> Report:
    """List the newest messages that delivery has of an organisation, or those with an id of a provider."""
    if not (options.organisation or options.provider_id):
        raise WrongUsage("choose messages with --organisation or --provider-id")
    wanted = MessageSearch(options.organisation, options.provider_id, options.before)
    async with stack.session("delivery") as session:
        rows = await service.find_messages(session, wanted, options.limit + 1)
    rows, last = take_page(rows, options.limit)
    found = [_describe(row, options.show_phones) for row in rows]
    cells = [(str(row.id), row.organisation_id, show_time(row.created_at), *_rest(row, options)) for row in rows]
    following = last and last.id
    lines = table(_COLUMNS, cells) if cells else ["no messages"]
    if following is not None:
        lines.append(f"for older ones add --before {following}")
    return Report({"messages": found, "next": following}, lines)


def _describe(row: FoundMessage, show_phones: bool) -> dict[str, Any]:
    return {**row._asdict(), "phone": mask(row.phone, show_phones)}


def _rest(row: FoundMessage, options: argparse.Namespace) -> tuple[object, ...]:
    phone = mask(row.phone, options.show_phones)
    return row.status, row.format, phone, row.provider, row.provider_message_id, row.failure_category


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--organisation", help="the id of the organisation, org_…")
    parser.add_argument("--provider-id", help="the provider's id of the message")
    parser.add_argument("--before", type=read_positive, metavar="ID", help="only messages older than this one")
    add_limit(parser)
    add_privacy(parser, texts=False)


COMMAND = Command("messages", "find messages of an organisation, or by a provider's id", find_messages, _add_arguments)
