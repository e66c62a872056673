"""State events published once more, for consumers that may have missed some."""

import argparse
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from contacts.contacts.service import republish_contacts
from contacts.identity.service import republish_organisations
from delivery.limits.service import republish_settings
from delivery.messages.service import republish_outcomes
from delivery.stops.service import republish_stops
from tools.operator.stack import OperatorError, Stack, read_since, show_time

_BATCH = 1_000
Step = Callable[[AsyncSession, datetime, Any, int], Awaitable[Any]]
# What is published again, from which service, and where its first batch begins.
_STATES: tuple[tuple[str, str, Step, Any], ...] = (
    ("contacts", "contacts", republish_contacts, 0),
    ("contacts", "organisations", republish_organisations, ""),
    ("delivery", "settings", republish_settings, ""),
    ("delivery", "stops", republish_stops, ("", "")),
    ("delivery", "outcomes", republish_outcomes, 0),
)


async def republish(stack: Stack, options: argparse.Namespace) -> int:
    """Puts the states that changed since a time into the outboxes. Consumers keep the newest version they know."""
    try:
        since = read_since(options.since)
    except ValueError:
        raise OperatorError(f"--since: {options.since!r} is no time: 2026-11-25T09:00Z, or 90m, 6h, 2d ago") from None
    for service, what, step, start in _STATES:
        after = start
        while after is not None:
            async with stack.session(service) as session:
                after = await step(session, since, after, _BATCH)
        print(f"{what}: what changed since {show_time(since)} is in the outbox of {service}")
    return 0
