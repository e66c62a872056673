"""Dispatch due schedules: claim them, fill their texts, and add a ScheduleDue for each, in one transaction."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from common.database import after_commit
from common.events import ScheduleDue
from common.loops import report_rows
from common.outbox import publish
from scheduling.dispatch import repository
from scheduling.dispatch.rules import Refusal, decide, make_event
from scheduling.recipients.service import apply_stored_changes
from scheduling.texts.rules import count_parts

BATCH = 500
_MIN_PAUSE_S, _MAX_PAUSE_S = 0.02, 30.0
_FULL_PAUSE_S = 0.25


async def publish_again(session: AsyncSession, ids: Sequence[int]) -> None:
    """Publish the current dispatches of these schedules once more, with the same event ids."""
    events = []
    for due in await repository.read_processing_all_tenants(session, ids):
        text = due.filled_text
        events.append(make_event(due, due.dispatch_number, text, count_parts(due.content.format, text)))
    await publish(session, events)


async def seconds_to_next(session: AsyncSession) -> float:
    """Return the pause until something may be due.

    What is due already could not be claimed: the window of its batch is full, or another transaction locked it.
    """
    seconds = await repository.seconds_to_next_all_tenants(session)
    if seconds is None:
        return _MAX_PAUSE_S
    return _FULL_PAUSE_S if seconds <= 0 else min(max(seconds, _MIN_PAUSE_S), _MAX_PAUSE_S)


async def dispatch_due(session: AsyncSession, *, window: int, max_parts: int, sweep_after_s: float) -> bool:
    """Claim once due single schedules and due messages of batches. Return whether there may be more to claim."""
    await repository.start_batches_all_tenants(session)
    singles = await repository.claim_singles_all_tenants(session, BATCH)
    messages = await repository.claim_messages_all_tenants(session, BATCH, window)
    if not singles and not messages:
        return False
    ids = [*singles, *messages]
    after_commit(session, partial(report_rows, len(ids)))
    await apply_stored_changes(session, ids)
    decisions = [decide(due, max_parts) for due in await repository.read_pending_all_tenants(session, ids)]
    events = [decision for decision in decisions if isinstance(decision, ScheduleDue)]
    refusals = [decision for decision in decisions if isinstance(decision, Refusal)]
    await publish(session, events)
    if events:
        await repository.mark_dispatched_all_tenants(session, events, sweep_after_s)
    if refusals:
        await repository.refuse_all_tenants(session, refusals)
    # Batches share the claim in equal parts, rounded down, and a batch with few due messages leaves some of its part
    # unused. So there may be more messages although fewer than BATCH were claimed.
    return len(singles) == BATCH or len(messages) >= BATCH // 2
