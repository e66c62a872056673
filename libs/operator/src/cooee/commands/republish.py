"""The command `republish`: publish current states again, for consumers that may have missed events."""

import argparse
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from contacts.contacts.service import republish_contacts
from contacts.identity.service import republish_organisations
from cooee.arguments import read_since
from cooee.command import Command, Report
from cooee.output import show_time
from cooee.stack import Stack
from delivery.configs.service import republish_settings
from delivery.messages.service import republish_outcomes
from delivery.opt_outs.service import republish_opt_outs

_BATCH = 1_000
Republish = Callable[[AsyncSession, datetime, Any, int], Awaitable[Any]]
# Service, name of the states, the service's use case, and the position before the first batch.
_STATES: tuple[tuple[str, str, Republish, Any], ...] = (
    ("contacts", "contacts", republish_contacts, 0),
    ("contacts", "organisations", republish_organisations, ""),
    ("delivery", "settings", republish_settings, ""),
    ("delivery", "opt-outs", republish_opt_outs, ("", "")),
    ("delivery", "outcomes", republish_outcomes, 0),
)


async def republish(stack: Stack, options: argparse.Namespace) -> Report:
    """Publish the states that changed since a time again. Consumers apply only versions that are new to them."""
    for service, _, republish_batch, start in _STATES:
        after = start
        while after is not None:
            async with stack.session(service) as session:
                after = await republish_batch(session, options.since, after, _BATCH)
    changes = f"changes since {show_time(options.since)} are in the outbox of"
    states = [{"state": name, "service": service} for service, name, _, _ in _STATES]
    lines = [f"{name}: {changes} {service}" for service, name, _, _ in _STATES]
    return Report({"since": options.since, "states": states}, lines)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", type=read_since, required=True, help="a time, or 90m, 6h, 2d for a time ago")


COMMAND = Command(
    "republish", "publish the states that changed since a time again", republish, _add_arguments, changes=True
)
