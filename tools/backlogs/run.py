"""One run: a new stack, the scenarios one after another, and the report."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp

from tools.backlogs.fairness import fairness
from tools.backlogs.outages import broker_outage, delivery_outage
from tools.backlogs.outbox import dropped_events, full_outbox
from tools.backlogs.report import Report
from tools.backlogs.world import Size, World
from tools.chaos.audit import install_audit
from tools.embedded.supervisor import Stack

SETTINGS = {
    "SMS_PROVIDERS": "mobile_message",
    "THROTTLE_RATE_IMPORT": "100000/min",
    "THROTTLE_RATE_SMS": "100000/min",
    "THROTTLE_RATE_USER": "100000/min",
}
SCENARIOS: dict[str, Callable[[World], Awaitable[None]]] = {
    "broker": broker_outage,
    "delivery": delivery_outage,
    "fairness": fairness,
    "dropped": dropped_events,
    "outbox": full_outbox,
}


async def run(
    size: Size, home: Path, say: Callable[[str], None], only: Sequence[str] = (), *, is_timed: bool = True
) -> Report:
    """Run the scenarios in a new stack in `home`, or only those that are named. Raises StackError.

    Without `is_timed` a delay is no violation, for a machine that does other work at the same time.
    """
    report = Report()
    stack = Stack(home, SETTINGS, free_ports=True, say=say)
    async with stack, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        await install_audit(stack.environment["DATABASE_URL"])
        world = World(stack, http, size, report, say)
        world.is_timed = is_timed
        for name in only or SCENARIOS:
            await SCENARIOS[name](world)
    return report
