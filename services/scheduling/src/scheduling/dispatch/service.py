"""What is due goes to delivery: claimed, filled, and written as ScheduleDue in one transaction."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ScheduleDue
from common.outbox import publish
from scheduling.dispatch import repository
from scheduling.dispatch.repository import Ended
from scheduling.dispatch.rules import Due, make_due
from scheduling.recipients.service import catch_up
from scheduling.texts.service import count_parts, find_fault

__all__ = ["Due", "dispatch_due", "publish_again", "publish_first"]

BATCH = 500


async def publish_first(session: AsyncSession, due: Due, parts: int) -> None:
    """The event of a schedule whose first run begins as it is written."""
    await publish(session, [make_due(due, 1, due.filled, parts)])


async def publish_again(session: AsyncSession, ids: Sequence[int]) -> None:
    """The events of the runs that are under way, once more."""
    events = []
    for due in await repository.read_under_way_all_tenants(session, ids):
        text = due.filled
        events.append(make_due(due, due.run, text, count_parts(due.format, text)))
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
    going: list[Due] = []
    events: list[ScheduleDue] = []
    ended: list[Ended] = []
    for due in await repository.read_pending_all_tenants(session, ids):
        text = due.filled
        fault = find_fault(due.format, text, max_parts)
        if due.closed:
            ended.append(Ended(due, None, None))
        elif fault is not None:
            ended.append(Ended(due, "content_rejected", fault))
        else:
            going.append(due)
            events.append(make_due(due, due.run + 1, text, count_parts(due.format, text)))
    await publish(session, events)
    if going:
        await repository.hand_over_all_tenants(session, going, [event.parts for event in events], sweep_after_s)
    if ended:
        await repository.end_all_tenants(session, ended)
    return len(singles) == BATCH or len(children) >= BATCH // 2
