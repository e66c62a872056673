"""Use cases of messages: take in, claim, finish, settle what is unknown. Transactions are the callers'."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactChanged, ContactState, OrganisationChanged, ScheduleDue
from common.outbox import publish
from common.phones import FICTIONAL_MOBILES
from delivery.limits import service as limits
from delivery.messages import calls, repository
from delivery.messages.rules import (
    ERRORS,
    Call,
    Policy,
    Result,
    make_batches,
    outcome_event,
    outgoing,
    refusal,
)
from delivery.messages.schemas import RunState, ScheduleRun
from delivery.providers.base import Provider

log = structlog.get_logger()

RETRIES = 500
CALLS = 100


async def take_in(session: AsyncSession, events: Sequence[ScheduleDue], deadline_s: float) -> None:
    """Adds what is new by (schedule, run). Refused ones fail at once, as do those that find no place in the limit."""
    periods = await limits.periods(session, [(event.organisation_id, event.scheduled_time) for event in events])
    new = {(event.schedule_id, event.run): (event, period) for event, period in zip(events, periods, strict=True)}
    pairs = list(new.values())
    rows = await repository.add(session, [event for event, _ in pairs], [period for _, period in pairs], deadline_s)
    failures: dict[int, tuple[str, str]] = {}
    wanting: list[tuple[int, tuple[ScheduleDue, date]]] = []
    for row in rows:
        if row.refusal is not None:
            failures[row.id] = (row.refusal, ERRORS[row.refusal])
        else:
            wanting.append((row.id, new[row.schedule_id, row.run]))
    granted = await limits.take_places(session, [pair for _, pair in wanting])
    for (message_id, _), fits in zip(wanting, granted, strict=True):
        if not fits:
            failures[message_id] = ("limit_exceeded", ERRORS["limit_exceeded"])
    if failures:
        await publish(session, [outcome_event(row) for row in await repository.fail(session, failures)])


async def claim_calls(
    session: AsyncSession, message_format: str, provider: Provider, slots: int, turns: dict[str, str], policy: Policy
) -> list[Call]:
    """Claims what fits into `slots` requests, writes the calls, and returns them ready to be made after the commit.

    What must not go out any more fails instead. `turns` (lane → the organisation that was served last) is moved on.
    """
    rows = await repository.claim(session, message_format, slots * provider.batch_size, turns)
    _move_turns(turns, rows, slots * provider.batch_size)
    failures: dict[int, tuple[str, str]] = {}
    going = []
    for row in rows:
        reason = refusal(row, provider, FICTIONAL_MOBILES)
        if reason is None:
            going.append(row)
        else:
            failures[row.id] = (reason, ERRORS[reason])
    if failures:
        await _end(session, await repository.fail(session, failures))
    made = {
        uuid4(): (batch, provider.prepare([outgoing(row) for row in batch]))
        for batch in make_batches(going, provider.batch_size, slots)
    }
    if made:
        await calls.start(session, provider.name, made, policy)
    return [
        Call(key, 1, body, [row.id for row in batch], [row.attempts + 1 for row in batch], _shared_request(batch))
        for key, (batch, body) in made.items()
    ]


def _shared_request(rows: Sequence[Row[Any]]) -> str:
    ids = {row.request_id for row in rows}
    return str(ids.pop()) if len(ids) == 1 else ""


def _move_turns(turns: dict[str, str], rows: Sequence[Row[Any]], wanted: int) -> None:
    """When there were more organisations than places, the next claim begins after the last one served."""
    for lane in turns:
        organisations = [row.organisation_id for row in rows if row.lane == lane]
        is_full = len(rows) == wanted and len(set(organisations)) == len(organisations)
        turns[lane] = max(organisations) if organisations and is_full else ""


async def finish(session: AsyncSession, results: Sequence[Result], policy: Policy) -> int:
    """Applies a batch of results with the events of what ended, and returns how many held."""
    best: dict[tuple[int, UUID], Result] = {}
    for result in results:  # a late answer and that of a repetition may come together: the acceptance counts
        if result.status == "sent" or (result.message_id, result.key) not in best:
            best[result.message_id, result.key] = result
    rows = await repository.finish(session, list(best.values()))
    await _end(session, rows)
    in_doubt = {r.key: (r.requests, r.replay) for r in best.values() if r.status == "unknown"}
    if in_doubt:
        await calls.doubt(session, in_doubt, policy)
    settled = {result.key for result in best.values() if result.status != "unknown"}
    if settled:
        await calls.remove_settled(session, settled)
    return len(rows)


async def _end(session: AsyncSession, rows: Sequence[Row[Any]]) -> None:
    """Tells the outcomes; what no provider took gives its place back (bus.md, Limits)."""
    ended = [row for row in rows if row.status in ("sent", "failed")]
    await publish(session, [outcome_event(row) for row in ended])
    lost = [row for row in ended if row.status == "failed" and row.category != "outcome_unknown"]
    await limits.give_back(session, lost)


async def queue_retries(session: AsyncSession) -> int:
    """Queues messages whose back-off is over, `RETRIES` at most, and returns how many."""
    return await repository.promote(session, RETRIES)


async def settle_calls(session: AsyncSession, provider: Provider, slots: int, policy: Policy) -> list[Call]:
    """Deals with calls that are due: a lease that ran out makes a call unknown; an unknown one is repeated (returned,
    at most `slots`) while that may help, and ends `outcome_unknown` with its window."""
    due = await calls.due(session, provider.name, CALLS)
    if not due:
        return []
    messages = await calls.lock_messages(session, [i for call in due for i in call.message_ids])
    unsettled: dict[UUID, list[Row[Any]]] = {call.key: [] for call in due}
    for message in messages:
        if message.status in ("sending", "unknown") and message.call_key in unsettled:
            unsettled[message.call_key].append(message)
    lapsed = [call.key for call in due if call.state == "open"]
    if lapsed:
        log.warning("calls outlived their lease", provider=provider.name, calls=len(lapsed))
        await calls.lapse(session, lapsed, replay=provider.idempotent, policy=policy)
    unknown = [call for call in due if call.state == "unknown"]
    ended = [call.key for call in unknown if call.has_ended]
    if ended:
        # Under the lock of the messages: one that is sending is being repeated by another at this moment.
        lost = [m.id for key in ended for m in unsettled[key] if m.status == "unknown"]
        told = ("outcome_unknown", ERRORS["outcome_unknown"])
        await _end(session, await repository.fail(session, dict.fromkeys(lost, told)))
    await calls.remove_settled(session, list(unsettled))
    stopped = {key for key, rows in unsettled.items() if any(row.has_stopped for row in rows)}
    waiting = [call.key for call in unknown if not call.has_ended]
    if stopped:
        await calls.wait_for_end(session, stopped)
    repeated = [key for key in waiting if key not in stopped and provider.idempotent][:slots]
    if not repeated:
        return []
    return [
        Call(row.key, row.requests, row.body, row.message_ids, [0] * len(row.message_ids), row.request_id)
        for row in await calls.repeat(session, repeated, policy)
    ]


async def states(session: AsyncSession, asked: Sequence[ScheduleRun]) -> list[RunState]:
    """What is known of these dispatches, in order."""
    rows = await repository.states(session, {(item.schedule_id, item.run) for item in asked})
    found = {(row.schedule_id, row.run): row for row in rows}
    return [_state(item, found.get((item.schedule_id, item.run))) for item in asked]


def _state(item: ScheduleRun, row: Row[Any] | None) -> RunState:
    if row is None:
        return RunState(**item.model_dump(), state="unknown_here")
    if row.status not in ("sent", "failed"):
        return RunState(**item.model_dump(), state="open")
    return RunState(**item.model_dump(), state=row.status, event=outcome_event(row).model_dump(mode="json"))


async def hear_contacts(session: AsyncSession, events: Sequence[ContactChanged]) -> None:
    """Keeps who has opted out: the newest version of each contact."""
    newest: dict[tuple[str, int], ContactState] = {}
    for event in events:
        for contact in event.contacts:
            key = (event.organisation_id, contact.contact_id)
            if key not in newest or newest[key].version < contact.version:
                newest[key] = contact
    await repository.hear_contacts(session, _in_order(newest))


async def hear_organisations(session: AsyncSession, events: Sequence[OrganisationChanged]) -> None:
    """Keeps which organisations are closed: the newest version of each."""
    newest: dict[str, OrganisationChanged] = {}
    for event in events:
        known = newest.get(event.organisation_id)
        if known is None or known.version < event.version:
            newest[event.organisation_id] = event
    await repository.hear_organisations(session, _in_order(newest))


def _in_order(changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Sorted by key, so that two transactions lock the same rows in the same order."""
    return dict(sorted(changes.items()))
