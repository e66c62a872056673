"""The command `senders`: which organisation may send from a number or name of the account at the provider."""

import argparse

from common.phones import show_phone
from delivery.inbound import service as inbound
from delivery.inbound.rules import UnmatchedChoice
from delivery.sender_ids import service
from delivery.sender_ids.rules import canonical_sender_id
from tools.operator.inbound import show_count
from tools.operator.providers import read_providers
from tools.operator.stack import OperatorError, Stack, show_time


async def list_sender_ids(stack: Stack, _: argparse.Namespace) -> int:
    """List every assigned sender ID, by organisation."""
    async with stack.session("delivery") as session:
        rows = await service.list_all_tenants(session)
    for row in rows:
        print(f"{row.organisation_id:<32} {show_phone(row.sender_id):<12} since {show_time(row.created_at)}")
    if not rows:
        print("no sender ID is assigned")
    return 0


async def assign_sender_id(stack: Stack, options: argparse.Namespace) -> int:
    """Assign a sender ID to an organisation.

    The organisation may then set it as its config `sender`, and gets the inbound messages to it. A sender ID of another
    organisation (remove it there first) or a default of this installation is refused with code 2.
    """
    sender_id, organisation = _read(options.sender), options.organisation.strip()
    if not organisation:
        raise OperatorError("--organisation: enter the id of the organisation")
    if sender_id in await _defaults(stack):
        raise OperatorError(f"{show_phone(sender_id)} is a default sender ID, which all organisations share")
    async with stack.session("delivery") as session:
        owner = await service.assign(session, sender_id, organisation)
        unmatched = await inbound.count_unmatched(session, UnmatchedChoice(to=sender_id))
    if owner != organisation:
        raise OperatorError(f"{show_phone(sender_id)} belongs to {owner}: remove it there first")
    print(f"{show_phone(sender_id)} belongs to {organisation}")
    if unmatched.messages:
        print(f"{show_count(unmatched, 'to it ')}: run inbound match --sender {show_phone(sender_id)}")
    return 0


async def remove_sender_id(stack: Stack, options: argparse.Namespace) -> int:
    """Remove a sender ID from its organisation, whose messages come from the default within a second.

    The exit code is 1 when the sender ID was not assigned.
    """
    sender_id = _read(options.sender)
    async with stack.session("delivery") as session:
        owner = await service.remove(session, sender_id)
    if owner is None:
        print(f"{show_phone(sender_id)} is not assigned")
        return 1
    print(f"{show_phone(sender_id)} no longer belongs to {owner}")
    return 0


async def _defaults(stack: Stack) -> set[str | None]:
    """Return the default sender IDs of the configured providers. Raises OperatorError when a setting is invalid."""
    return {canonical_sender_id(provider.default_sender_id) for provider in await read_providers(stack)}


def _read(value: str) -> str:
    sender_id = canonical_sender_id(value)
    if sender_id is None:
        raise OperatorError("--sender: enter an Australian mobile, or 3 to 11 letters and digits with a letter")
    return sender_id
