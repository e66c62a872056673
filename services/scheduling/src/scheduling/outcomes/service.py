"""What became of a dispatch: heard from delivery, or asked for when nothing is heard."""

from collections.abc import Sequence
from typing import TypeAlias

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import MessageFailed, MessageSent
from scheduling.clients.delivery import Reports
from scheduling.dispatch.service import publish_again
from scheduling.outcomes import repository

log = structlog.get_logger()

BATCH = 500
SWEEPS = 5

Outcome: TypeAlias = MessageSent | MessageFailed


async def apply_outcomes(session: AsyncSession, events: Sequence[Outcome]) -> None:
    """Takes over outcomes by the highest (run, version); unknown schedules and older runs change nothing."""
    newest: dict[int, Outcome] = {}
    for event in events:
        known = newest.get(event.schedule_id)
        if known is None or (known.run, known.version) < (event.run, event.version):
            newest[event.schedule_id] = event
    corrected = await repository.apply_all_tenants(session, [newest[key] for key in sorted(newest)])
    if corrected:
        await repository.reopen_parents_all_tenants(session, corrected)


async def find_overdue(session: AsyncSession) -> list[tuple[int, int]]:
    """(schedule, run) of what has been in processing for too long."""
    return await repository.find_overdue_all_tenants(session, BATCH)


async def settle_overdue(session: AsyncSession, reports: Reports, after_s: float) -> None:
    """Applies what delivery knows; what it never got is published again, five times at most (bus.md, Sweepers)."""
    outcomes: list[Outcome] = []
    lost: list[tuple[int, int]] = []
    waiting: list[tuple[int, int]] = []
    for report in reports.states:
        if report.state in ("sent", "failed"):
            event_class = MessageSent if report.state == "sent" else MessageFailed
            outcomes.append(event_class.model_validate(report.event))
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
