"""What became of a dispatch: heard from delivery, or asked for when nothing is heard."""

from collections.abc import Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import MessageDelivered, MessageFailed, MessageSent
from scheduling.clients.delivery import Reports
from scheduling.dispatch.service import publish_again
from scheduling.group_schedules.service import end_again
from scheduling.outcomes import repository
from scheduling.outcomes.rules import Word, newest, outcome_of

log = structlog.get_logger()

BATCH = 500
SWEEPS = 5

_EVENTS: dict[str, type[Word]] = {"sent": MessageSent, "failed": MessageFailed, "delivered": MessageDelivered}


async def apply_outcomes(session: AsyncSession, words: Sequence[Word]) -> None:
    """Takes over delivery's words by the highest (run, version); unknown schedules and older runs change nothing."""
    turned = await repository.apply_all_tenants(session, [outcome_of(word) for word in newest(words)])
    if turned:
        await end_again(session, turned)


async def find_overdue(session: AsyncSession) -> list[tuple[int, int]]:
    """(schedule, run) of what has been in processing for too long."""
    return await repository.find_overdue_all_tenants(session, BATCH)


async def settle_overdue(session: AsyncSession, reports: Reports, after_s: float) -> None:
    """Applies what delivery knows; what it never got is published again, five times at most (bus.md, Sweepers)."""
    outcomes: list[Word] = []
    lost: list[tuple[int, int]] = []
    waiting: list[tuple[int, int]] = []
    for report in reports.states:
        if report.state in _EVENTS:
            outcomes.append(_EVENTS[report.state].model_validate(report.event))
        elif report.state == "unknown_here" and not reports.intake_lag:
            lost.append((report.schedule_id, report.run))
        else:
            waiting.append((report.schedule_id, report.run))
    if outcomes:
        await apply_outcomes(session, outcomes)
    if waiting:
        await repository.sweep_later_all_tenants(session, waiting, after_s)
    if lost:
        await _publish_lost(session, await repository.count_sweep_all_tenants(session, lost, after_s))


async def _publish_lost(session: AsyncSession, swept: Sequence[tuple[int, int]]) -> None:
    stuck = [schedule_id for schedule_id, times in swept if times > SWEEPS]
    if stuck:
        log.error("schedules are stuck: delivery never took them in", schedules=stuck)
    again = [schedule_id for schedule_id, times in swept if times <= SWEEPS]
    if again:
        log.warning("published again what delivery did not know", count=len(again))
        await publish_again(session, again)
