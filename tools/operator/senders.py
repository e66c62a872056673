"""Which organisation may send from a number or name: the word of the operator, whose account at the provider it is."""

import argparse

from common.phones import show_phone
from delivery.limits.rules import canonical_sender
from tools.operator.stack import OperatorError, Stack, show_time

# Says whose it is, whoever came first: the update changes nothing, but has the row returned.
_ASSIGN = """
    INSERT INTO senders (sender, organisation_id) VALUES (:sender, :organisation)
    ON CONFLICT (sender) DO UPDATE SET sender = excluded.sender RETURNING organisation_id
"""


async def list_senders(stack: Stack, _: argparse.Namespace) -> int:
    """Every sender that is assigned, by organisation."""
    rows = await stack.rows("delivery", "SELECT * FROM senders ORDER BY organisation_id, sender")
    for row in rows:
        print(f"{row.organisation_id:<32} {show_phone(row.sender):<12} since {show_time(row.created_at)}")
    if not rows:
        print("no sender is assigned")
    return 0


async def assign_sender(stack: Stack, options: argparse.Namespace) -> int:
    """Gives a sender to an organisation, which may then set it as its config `sender` and gets what people write to it.

    2 when it belongs to another organisation (remove it first) or is a default of this installation.
    """
    sender, organisation = _read(options.sender), options.organisation.strip()
    if not organisation:
        raise OperatorError("--organisation: say which")
    try:
        defaults = stack.delivery_settings().own_numbers
    except ValueError as error:
        raise OperatorError(f"delivery's settings: {error}") from None
    if sender in map(canonical_sender, defaults):
        raise OperatorError(f"{show_phone(sender)} is a default of this installation, which all organisations share")
    (row,) = await stack.rows("delivery", _ASSIGN, sender=sender, organisation=organisation)
    if row.organisation_id != organisation:
        raise OperatorError(f"{show_phone(sender)} belongs to {row.organisation_id}: remove it there first")
    print(f"{show_phone(sender)} belongs to {organisation}")
    return 0


async def remove_sender(stack: Stack, options: argparse.Namespace) -> int:
    """Takes a sender from its organisation. Within a second its messages come from the default. 1 when it had none."""
    sender = _read(options.sender)
    gone = "DELETE FROM senders WHERE sender = :sender RETURNING organisation_id"
    rows = await stack.rows("delivery", gone, sender=sender)
    for row in rows:
        print(f"{show_phone(sender)} belongs to {row.organisation_id} no more")
    if not rows:
        print(f"{show_phone(sender)} is not assigned")
    return 0 if rows else 1


def _read(given: str) -> str:
    sender = canonical_sender(given)
    if sender is None:
        raise OperatorError("--sender: an Australian mobile, or 3 to 11 letters and digits with at least one letter")
    return sender
