"""The commands `sender-ids`: which organisation may send from a number or name of the account at the provider."""

import argparse

from common.phones import show_phone
from cooee.command import Command, Group, Report
from cooee.commands.inbound import count_document, show_count
from cooee.commands.providers import read_providers
from cooee.errors import NotFound, Refused, WrongUsage
from cooee.output import show_time, table
from cooee.stack import Stack
from delivery.inbound import service as inbound
from delivery.inbound.rules import UnmatchedChoice
from delivery.sender_ids import service
from delivery.sender_ids.rules import canonical_sender_id


async def list_sender_ids(stack: Stack, _: argparse.Namespace) -> Report:
    """List every assigned sender ID, by organisation."""
    async with stack.session("delivery") as session:
        rows = await service.list_all_tenants(session)
    found = [
        {
            "organisation_id": row.organisation_id,
            "sender_id": show_phone(row.sender_id),
            "assigned_at": row.created_at,
        }
        for row in rows
    ]
    cells = [(row.organisation_id, show_phone(row.sender_id), show_time(row.created_at)) for row in rows]
    lines = table(("organisation", "sender ID", "since"), cells) if cells else ["no sender ID is assigned"]
    return Report({"sender_ids": found}, lines)


async def assign_sender_id(stack: Stack, options: argparse.Namespace) -> Report:
    """Assign a sender ID to an organisation.

    The organisation may then set it as its config `sender`, and gets the inbound messages to it. A sender ID of another
    organisation (remove it there first) or a default of this installation is refused with code 5.
    """
    sender_id, organisation = _read(options.sender), options.organisation.strip()
    if not organisation:
        raise WrongUsage("--organisation: enter the id of the organisation")
    shown = show_phone(sender_id)
    if sender_id in await _defaults(stack):
        raise Refused(f"{shown} is a default sender ID, which all organisations share")
    async with stack.session("delivery") as session:
        owner = await service.assign(session, sender_id, organisation)
        unmatched = await inbound.count_unmatched(session, UnmatchedChoice(to=sender_id))
    if owner != organisation:
        raise Refused(f"{shown} belongs to {owner}: remove it there first")
    lines = [f"{shown} belongs to {organisation}"]
    if unmatched.messages:
        lines.append(f"{show_count(unmatched, 'to it ')}: run cooee inbound match --sender {shown}")
    document = {"sender_id": shown, "organisation_id": organisation, "unmatched": count_document(unmatched)}
    return Report(document, lines)


async def remove_sender_id(stack: Stack, options: argparse.Namespace) -> Report:
    """Remove a sender ID from its organisation, whose messages come from the default within a second."""
    sender_id = _read(options.sender)
    async with stack.session("delivery") as session:
        owner = await service.remove(session, sender_id)
    shown = show_phone(sender_id)
    if owner is None:
        raise NotFound(f"{shown} is not assigned")
    return Report({"sender_id": shown, "organisation_id": owner}, [f"{shown} no longer belongs to {owner}"])


async def _defaults(stack: Stack) -> set[str | None]:
    """Return the default sender IDs of the configured providers. Raises WrongSettings when a setting is invalid."""
    return {canonical_sender_id(provider.default_sender_id) for provider in await read_providers(stack)}


def _read(value: str) -> str:
    sender_id = canonical_sender_id(value)
    if sender_id is None:
        raise WrongUsage("--sender: enter an Australian mobile, or 3 to 11 letters and digits with a letter")
    return sender_id


def _add_sender(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sender", required=True, help="the number, 04…, or the name")


def _add_assign(parser: argparse.ArgumentParser) -> None:
    _add_sender(parser)
    parser.add_argument("--organisation", required=True, help="the id of the organisation, org_…")


COMMAND = Group(
    "sender-ids",
    "say which organisation may send from which number or name",
    (
        Command("list", "list the assigned ones", list_sender_ids),
        Command("assign", "assign one to an organisation", assign_sender_id, _add_assign, changes=True),
        Command("remove", "remove one from its organisation", remove_sender_id, _add_sender, changes=True),
    ),
)
