"""What is due goes to delivery: claimed, filled, and written as ScheduleDue in one transaction."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ScheduleDue
from common.outbox import publish
from scheduling.dispatch import repository
from scheduling.dispatch.repository import Ended
from scheduling.models import Schedule
from scheduling.recipients.service import catch_up
from scheduling.texts.service import Names, count_parts, fill, find_fault

BATCH = 500


def make_due(schedule: Schedule, run: int, text: str, parts: int) -> ScheduleDue:
    """The event of one run: the same id whenever it is made for the same run. Only run 1 draws on a hold."""
    assert schedule.phone is not None
    return ScheduleDue(
        event_id=ScheduleDue.id_of(schedule.id, run),
        organisation_id=schedule.organisation_id,
        request_id=schedule.request_id,
        schedule_id=schedule.id,
        run=run,
        group_schedule_id=schedule.parent_id,
        contact_id=schedule.contact_id,
        phone=schedule.phone,
        text=text,
        format=schedule.format,
        subject=schedule.subject,
        media_url=schedule.media_url,
        parts=parts,
        scheduled_time=schedule.scheduled_time,
        lane="bulk" if schedule.kind == "child" else "single",
        hold=schedule.hold if run == 1 else None,
    )


def fill_schedule(schedule: Schedule) -> str:
    """The text as it goes to the schedule's recipient."""
    return fill(schedule.text, Names(schedule.first_name, schedule.last_name, schedule.company))


async def publish_again(session: AsyncSession, schedules: Sequence[Schedule]) -> None:
    """The events of the runs that are under way, once more."""
    events = []
    for schedule in schedules:
        text = fill_schedule(schedule)
        events.append(make_due(schedule, schedule.run, text, count_parts(schedule.format, text)))
    await publish(session, events)


async def dispatch_due(session: AsyncSession, *, window: int, max_parts: int, sweep_after_s: float) -> bool:
    """One claim of single schedules and one of children. Returns whether there may be more to claim."""
    await repository.start_parents_all_tenants(session)
    singles = await repository.claim_singles_all_tenants(session, BATCH)
    children = await repository.claim_children_all_tenants(session, BATCH, window)
    if not singles and not children:
        return False
    ids = [*singles, *children]
    await catch_up(session, ids)
    going: list[Schedule] = []
    events: list[ScheduleDue] = []
    ended: list[Ended] = []
    for schedule, closed in await repository.read_pending_all_tenants(session, ids):
        text = fill_schedule(schedule)
        fault = find_fault(schedule.format, text, max_parts)
        if closed:
            ended.append(Ended(schedule, None, None))
        elif fault is not None:
            ended.append(Ended(schedule, "content_rejected", fault))
        else:
            going.append(schedule)
            events.append(make_due(schedule, schedule.run + 1, text, count_parts(schedule.format, text)))
    await publish(session, events)
    if going:
        await repository.hand_over_all_tenants(session, going, [event.parts for event in events], sweep_after_s)
    if ended:
        await repository.end_all_tenants(session, ended)
    return len(singles) == BATCH or len(children) >= BATCH // 2
