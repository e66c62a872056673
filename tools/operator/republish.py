"""The command `republish`: publish current states again, for consumers that may have missed events."""

import argparse
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from contacts.contacts.service import republish_contacts
from contacts.identity.service import republish_organisations
from delivery.configs.service import republish_settings
from delivery.messages.service import republish_outcomes
from delivery.opt_outs.service import republish_opt_outs
from tools.operator.stack import OperatorError, Stack, read_since, show_time

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


async def republish(stack: Stack, options: argparse.Namespace) -> int:
    """Publish the states that changed since a time again. Consumers apply only versions that are new to them."""
    try:
        since = read_since(options.since)
    except ValueError:
        examples = "2026-11-25T09:00Z, or 90m, 6h, 2d for a time ago"
        raise OperatorError(f"--since: {options.since!r} is not a time: enter {examples}") from None
    for service, name, republish_batch, start in _STATES:
        after = start
        while after is not None:
            async with stack.session(service) as session:
                after = await republish_batch(session, since, after, _BATCH)
        print(f"{name}: changes since {show_time(since)} are in the outbox of {service}")
    return 0
