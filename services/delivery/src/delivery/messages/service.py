"""Use cases of messages: their intake, their outcomes, and what others ask about them.

Transactions lock opt-outs before limits, and messages before submissions, so no deadlock occurs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from common.database import after_commit
from common.events import FailureCategory, ScheduleDue
from common.outbox import publish
from common.paging import Page
from delivery import metrics
from delivery.configs import service as configs
from delivery.limits import service as limits
from delivery.messages import lists, repository
from delivery.messages.rules import (
    AutoReply,
    InSubmission,
    MessageSearch,
    MessageUpdate,
    OutcomeEvent,
    Result,
    outcome_event,
)
from delivery.messages.schemas import DispatchId, DispatchState, Filters
from delivery.models import FINAL, PUBLISHED, FoundMessage, ListedMessage, MessageStatus, OutcomeRow
from delivery.opt_outs import service as opt_outs
from delivery.organisations import service as organisations

BATCH = 500


async def add_due(session: AsyncSession, events: Sequence[ScheduleDue], deadline_s: float) -> None:
    """Add a message for each dispatch that is new.

    A message that is refused (opted out, closed organisation), or whose parts do not fit the limit, fails at once. The
    others are queued, until `deadline_s` after their scheduled time.
    """
    periods = await limits.periods(session, [(event.organisation_id, event.scheduled_time) for event in events])
    new = {
        (event.schedule_id, event.dispatch_number): (event, period)
        for event, period in zip(events, periods, strict=True)
    }
    added = await repository.add(
        session, [event for event, _ in new.values()], [period for _, period in new.values()], deadline_s
    )
    failures: dict[int, FailureCategory] = {row.id: row.refusal for row in added if row.refusal is not None}
    wanting = [row for row in added if row.refusal is None]
    fits = await limits.take_parts(session, [new[row.schedule_id, row.dispatch_number] for row in wanting])
    failures |= {row.id: "limit_exceeded" for row, fit in zip(wanting, fits, strict=True) if not fit}
    if failures:
        rows = await repository.fail(session, failures)
        after_commit(session, partial(metrics.count_outcomes, rows))
        await publish(session, [outcome_event(row) for row in rows])


async def fail(session: AsyncSession, failures: Mapping[int, FailureCategory]) -> None:
    """Fail messages that the caller locked (id → reason), publish it, and return their parts."""
    if failures:
        await _publish(session, await repository.fail(session, failures))


async def set_sending(session: AsyncSession, provider: str, messages: Sequence[InSubmission]) -> None:
    """Set the status of claimed messages to `sending`, each in its new submission to a provider."""
    await repository.set_sending(session, provider, messages)


async def set_unknown(session: AsyncSession, messages: Sequence[InSubmission]) -> None:
    """Set the status of messages whose submission got no answer in time to `unknown`."""
    await repository.set_unknown(session, messages)


async def set_resending(session: AsyncSession, messages: Sequence[InSubmission]) -> None:
    """Set the status of unknown messages to `sending`, because their submission is resent."""
    await repository.set_resending(session, messages)


async def apply_results(session: AsyncSession, results: Sequence[Result], *, min_delay_s: float) -> list[OutcomeRow]:
    """Apply the results of submissions, at most one for each message and submission, and publish what they mean.

    A delay is published when it is at least `min_delay_s`. The parts of messages that no provider accepted are
    released. A number that a provider refused as opted out is added to our opt-outs. Return the messages that changed.
    """
    rows = await repository.apply_results(session, results)
    accepted = [row for row in rows if row.status == MessageStatus.SENT]
    after_commit(session, partial(metrics.count_acceptances, accepted))
    short = {result.message_id for result in results if result.retry.delay_s < min_delay_s}
    await _add_provider_opt_outs(session, rows)
    await _publish(session, [row for row in rows if row.status != MessageStatus.RETRY_WAIT or row.id not in short])
    applied = {row.id for row in rows}
    late = [result for result in results if result.status == MessageStatus.SENT and result.message_id not in applied]
    if late:
        await repository.complete(session, late)
    return rows


async def apply_receipts(session: AsyncSession, updates: Sequence[MessageUpdate]) -> list[OutcomeRow]:
    """Apply delivery receipts to messages that the caller locked, and publish the new statuses.

    Return the messages with a new status. A message that failed after a provider accepted it keeps its parts. A number
    that a provider reports as opted out is added to our opt-outs.
    """
    rows = await repository.apply_receipts(session, updates)
    after_commit(session, partial(metrics.count_outcomes, rows))
    await publish(session, _events(rows))
    await _add_provider_opt_outs(session, rows)
    return rows


async def add_auto_replies(session: AsyncSession, replies: Sequence[AutoReply]) -> None:
    """Queue auto-replies, at most one for each inbound message. Their parts must be counted already."""
    if replies:
        await repository.add_auto_replies(session, replies)


async def _publish(session: AsyncSession, rows: Iterable[OutcomeRow]) -> None:
    published = [row for row in rows if row.status in PUBLISHED]
    after_commit(session, partial(metrics.count_outcomes, published))
    await publish(session, _events(published))
    await limits.return_parts(
        session,
        [row for row in published if row.status == MessageStatus.FAILED and row.failure_category != "outcome_unknown"],
    )


def _events(rows: Iterable[OutcomeRow]) -> list[OutcomeEvent]:
    """Return the events of messages of schedules. Auto-replies have no schedule, so no event."""
    return [outcome_event(row) for row in rows if row.schedule_id is not None]


async def _add_provider_opt_outs(session: AsyncSession, rows: Iterable[OutcomeRow]) -> None:
    """Add the opt-outs that a provider knows and we do not: an earlier STOP may have reached only the provider."""
    numbers = {
        (row.organisation_id, row.phone)
        for row in rows
        if row.status == MessageStatus.FAILED and row.failure_category == "opted_out"
    }
    if numbers:
        await opt_outs.add_provider_opt_outs(session, sorted(numbers))


async def expire(session: AsyncSession) -> int:
    """Fail up to `BATCH` messages that wait past their deadline, as when all providers are unavailable for long.

    Return how many.
    """
    expired = await repository.lock_expired(session, BATCH)
    await fail(session, dict.fromkeys(expired, "expired"))
    return len(expired)


async def queue_retries(session: AsyncSession) -> int:
    """Queue up to `BATCH` messages whose back-off is over. Return how many."""
    return await repository.queue_retries(session, BATCH)


async def states(session: AsyncSession, dispatches: Collection[DispatchId]) -> list[DispatchState]:
    """Return the states of these dispatches, in order."""
    rows = await repository.states(session, dispatches)
    found = {(row.schedule_id, row.dispatch_number): row for row in rows}
    return [_state(one, found.get((one.schedule_id, one.dispatch_number))) for one in dispatches]


def _state(dispatch: DispatchId, row: OutcomeRow | None) -> DispatchState:
    if row is None:
        return DispatchState(**dispatch.model_dump(), state="not_found")
    if row.status not in FINAL:
        return DispatchState(**dispatch.model_dump(), state="open")
    event = outcome_event(row).model_dump(mode="json")
    return DispatchState.model_validate({**dispatch.model_dump(), "state": row.status.value, "event": event})


async def republish_outcomes(session: AsyncSession, since: datetime, after: int, batch: int) -> int | None:
    """Publish a batch of the outcomes since then again.

    `after` is the last message of the previous batch, 0 at first. Return the last one of this batch, or None when
    there are no more.
    """
    rows = await repository.outcomes_since_all_tenants(session, since, after, batch)
    await publish(session, _events(rows))
    return rows[-1].id if len(rows) == batch else None


async def find_messages(session: AsyncSession, wanted: MessageSearch, limit: int) -> list[FoundMessage]:
    """Return the newest messages that match an operator's search."""
    return await lists.find_all_tenants(session, wanted, limit)


async def page_messages(
    session: AsyncSession, organisation_id: str, filters: Filters, page: Page
) -> tuple[list[ListedMessage], int]:
    """Return a page of the organisation's messages, the newest first, and the number of all.

    The days of the filters are those of the organisation's time zone. Raises OrganisationClosed.
    """
    await organisations.refuse_closed(session)
    start = end = None
    if filters.first or filters.last:
        zone = ZoneInfo(await configs.get_zone(session, organisation_id))
        start = _midnight(filters.first, zone)
        end = _midnight(filters.last + timedelta(days=1), zone) if filters.last else None
    return await lists.page(session, filters, page, start=start, end=end)


def _midnight(day: date | None, zone: ZoneInfo) -> datetime | None:
    return datetime.combine(day, time(), zone).astimezone(UTC) if day else None
