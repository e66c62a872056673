"""Outcomes of dispatches: reported by delivery's events, or asked for when no event arrives."""

from collections.abc import Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import MessageDelivered, MessageFailed, MessageSent
from common.versions import newest
from scheduling.batches.service import recompute_outcomes
from scheduling.clients.delivery import Reports
from scheduling.dispatch.service import publish_again
from scheduling.models import Dispatch
from scheduling.outcomes import repository
from scheduling.outcomes.repository import Swept
from scheduling.outcomes.rules import OutcomeEvent, outcome_of

log = structlog.get_logger()

BATCH = 500
MAX_SWEEPS = 5

_EVENTS: dict[str, type[OutcomeEvent]] = {"sent": MessageSent, "failed": MessageFailed, "delivered": MessageDelivered}


async def apply_outcomes(session: AsyncSession, events: Sequence[OutcomeEvent]) -> None:
    """Apply delivery's events. The highest (dispatch number, version) of a schedule wins.

    Events of unknown schedules and of older dispatches change nothing. A late receipt may change sent to failed or
    back; then the status of its batch is computed again.
    """
    latest = newest(
        events, key=lambda event: event.schedule_id, version=lambda event: (event.dispatch_number, event.version)
    )
    corrected = await repository.apply_all_tenants(session, [outcome_of(event) for event in latest.values()])
    if corrected:
        await recompute_outcomes(session, corrected)


async def find_overdue(session: AsyncSession) -> list[Dispatch]:
    """Return dispatches that have been in processing for too long."""
    return await repository.find_overdue_all_tenants(session, BATCH)


async def apply_reports(session: AsyncSession, reports: Reports, after_s: float) -> None:
    """Apply what delivery reports about overdue dispatches.

    A dispatch that delivery does not know is published again, `MAX_SWEEPS` times at most, unless delivery still has
    events to read.
    """
    outcomes: list[OutcomeEvent] = []
    lost: list[Dispatch] = []
    waiting: list[Dispatch] = []
    for report in reports.states:
        dispatch = Dispatch(report.schedule_id, report.dispatch_number)
        if report.state in _EVENTS:
            outcomes.append(_EVENTS[report.state].model_validate(report.event))
        elif report.state == "not_found" and not reports.intake_lag:
            lost.append(dispatch)
        else:
            waiting.append(dispatch)
    if outcomes:
        await apply_outcomes(session, outcomes)
    if waiting:
        await repository.postpone_sweep_all_tenants(session, waiting, after_s)
    if lost:
        await _publish_lost(session, await repository.count_sweep_all_tenants(session, lost, after_s))


async def _publish_lost(session: AsyncSession, lost: Sequence[Swept]) -> None:
    stuck = [swept.schedule_id for swept in lost if swept.sweep_count > MAX_SWEEPS]
    if stuck:
        log.error("schedules stuck", schedules=stuck, sweeps=MAX_SWEEPS)
    again = [swept.schedule_id for swept in lost if swept.sweep_count <= MAX_SWEEPS]
    if again:
        log.warning("dispatches published again", count=len(again))
        await publish_again(session, again)
