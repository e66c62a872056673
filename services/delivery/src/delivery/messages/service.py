"""Use cases of messages: take in, claim, finish, settle what is unknown. Transactions are the callers'."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactChanged, ContactState, ScheduleDue
from common.outbox import publish
from delivery.limits import service as limits
from delivery.messages import calls, repository
from delivery.messages.pace import Bucket
from delivery.messages.rules import (
    ERRORS,
    TOLD_DELAY_S,
    Call,
    Order,
    Policy,
    Result,
    make_batches,
    outcome_event,
    outgoing,
    refusal,
)
from delivery.messages.schemas import RunState, ScheduleRun
from delivery.providers.base import Provider
from delivery.stops import service as stops

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
    session: AsyncSession, order: Order, provider: Provider, bucket: Bucket, policy: Policy
) -> list[Call]:
    """Claims what is ordered, writes the calls, and returns them ready to be made after the commit.

    What must not go out any more fails instead; what is more than the provider's tokens stays queued.
    """
    rows = await repository.claim(session, order)
    failures: dict[int, tuple[str, str]] = {}
    going = []
    for row in rows:
        reason = refusal(row, provider)
        if reason is None:
            going.append(row)
        else:
            failures[row.id] = (reason, ERRORS[reason])
    if failures:
        await _tell(session, await repository.fail(session, failures))
    paid = going[: bucket.fit([row.units for row in going])]
    _move_turns(order, rows, paid if len(paid) < len(going) else None)
    made = {
        uuid4(): (batch, provider.prepare([outgoing(row, order.senders) for row in batch]))
        for batch in make_batches(paid, provider.batch_size, order.calls)
    }
    if made:
        await calls.start(session, provider.name, made, order.senders, policy)
    return [
        Call(
            key,
            1,
            body,
            [row.id for row in batch],
            [row.attempts + 1 for row in batch],
            sum(row.units for row in batch),
            _shared_request(batch),
        )
        for key, (batch, body) in made.items()
    ]


def _shared_request(rows: Sequence[Row[Any]]) -> str:
    ids = {row.request_id for row in rows}
    return str(ids.pop()) if len(ids) == 1 else ""


def _move_turns(order: Order, rows: Sequence[Row[Any]], paid: Sequence[Row[Any]] | None) -> None:
    """The next claim begins after the last organisation that was served, when there were more organisations than
    places, or when the tokens gave out (`paid` are those they paid for)."""
    for lane in order.turns:
        organisations = [row.organisation_id for row in rows if row.lane == lane]
        is_full = len(rows) == order.messages and len(set(organisations)) == len(organisations)
        if paid is not None:
            organisations, is_full = [row.organisation_id for row in paid if row.lane == lane], True
        order.turns[lane] = max(organisations) if organisations and is_full else ""


async def finish(session: AsyncSession, results: Sequence[Result], policy: Policy) -> None:
    """Applies those of a batch of results that still hold, with the events of what they mean."""
    best: dict[tuple[int, UUID], Result] = {}
    for result in results:  # a late answer and that of a repetition may come together: the acceptance counts
        if result.status == "sent" or (result.message_id, result.key) not in best:
            best[result.message_id, result.key] = result
    rows = await repository.finish(session, list(best.values()))
    brief = {result.message_id for result in best.values() if result.delay_s < min(TOLD_DELAY_S, policy.retry_base_s)}
    await _learn(session, rows)  # stops before limits, as replies lock them: neither waits for the other
    await _tell(session, [row for row in rows if row.status != "retry_wait" or row.id not in brief])
    held = {row.id for row in rows}
    late = [result for result in best.values() if result.status == "sent" and result.message_id not in held]
    if late:
        await repository.fill(session, late)
    in_doubt = {r.key: (r.requests, r.replay) for r in best.values() if r.status == "unknown"}
    if in_doubt:
        await calls.doubt(session, in_doubt, policy)
    settled = {result.key for result in best.values() if result.status != "unknown"}
    if settled:
        await calls.remove_settled(session, settled)


async def _learn(session: AsyncSession, rows: Sequence[Row[Any]]) -> None:
    """A provider that refuses a number as stopped knows of a STOP that we did not hear of."""
    stopped = {(r.organisation_id, r.phone) for r in rows if r.status == "failed" and r.category == "opted_out"}
    if stopped:
        await stops.learn_stops(session, sorted(stopped))


async def _tell(session: AsyncSession, rows: Sequence[Row[Any]]) -> None:
    """Tells the outcomes and delays; what no provider took gives its place back (bus.md, Limits).

    Our own answers to STOP and HELP have no schedule that waits for them.
    """
    told = [row for row in rows if row.status in ("sent", "failed", "retry_wait")]
    await publish(session, [outcome_event(row) for row in told if row.schedule_id is not None])
    lost = [row for row in told if row.status == "failed" and row.category != "outcome_unknown"]
    await limits.give_back(session, lost)


async def tell_settled(session: AsyncSession, rows: Sequence[Row[Any]], keys: Collection[UUID]) -> None:
    """Tells what receipts made of messages, learns the stops among it, and removes those of the calls that have
    nothing open any more.

    What failed after a provider took it keeps its place in the limit.
    """
    await publish(session, [outcome_event(row) for row in rows if row.schedule_id is not None])
    await _learn(session, rows)
    if keys:
        await calls.remove_settled(session, keys)


async def expire(session: AsyncSession) -> int:
    """Fails what waits past its deadline, `RETRIES` at most, and returns how many: nobody waits for ever while all
    providers are away."""
    late = await repository.lock_expired(session, RETRIES)
    if late:
        await _tell(session, await repository.fail(session, dict.fromkeys(late, ("expired", ERRORS["expired"]))))
    return len(late)


async def queue_retries(session: AsyncSession) -> int:
    """Queues messages whose back-off is over, `RETRIES` at most, and returns how many."""
    return await repository.promote(session, RETRIES)


async def settle_calls(
    session: AsyncSession,
    provider: str,
    slots: int,
    policy: Policy,
    *,
    replay: bool,
    refuses_stopped: bool = False,
) -> list[Call]:
    """Deals with calls that are due: a lease that ran out makes a call unknown; an unknown one is repeated (returned,
    at most `slots`) while that may help, and ends `outcome_unknown` with its window. `replay`: the provider is there
    and answers a repetition with its first answer. `refuses_stopped`: it refuses who said STOP to it.
    """
    due = await calls.due(session, provider, CALLS)
    if not due:
        return []
    ids = [message_id for call in due for message_id in call.message_ids]
    messages = await calls.lock_messages(session, ids, refuses_stopped=refuses_stopped)
    unsettled: dict[UUID, list[Row[Any]]] = {call.key: [] for call in due}
    for message in messages:
        if message.status in ("sending", "unknown") and message.call_key in unsettled:
            unsettled[message.call_key].append(message)
    lapsed = [call.key for call in due if call.state == "open"]
    if lapsed:
        log.warning("calls outlived their lease", provider=provider, calls=len(lapsed))
        await calls.lapse(session, lapsed, replay=replay, policy=policy)
    unknown = [call for call in due if call.state == "unknown"]
    ended = [call.key for call in unknown if call.has_ended]
    if ended:
        # Under the lock of the messages: one that is sending is being repeated by another at this moment.
        lost = [m.id for key in ended for m in unsettled[key] if m.status == "unknown"]
        told = ("outcome_unknown", ERRORS["outcome_unknown"])
        await _tell(session, await repository.fail(session, dict.fromkeys(lost, told)))
    await calls.remove_settled(session, list(unsettled))
    waiting = [call.key for call in unknown if not call.has_ended]
    hopeless = {key for key in unsettled if not replay or any(row.has_stopped for row in unsettled[key])}
    if hopeless:
        await calls.wait_for_end(session, hopeless)
    repeated = [key for key in waiting if key not in hopeless][:slots]
    if not repeated:
        return []
    return [
        Call(row.key, row.requests, row.body, row.message_ids, [0] * len(row.message_ids), row.parts, row.request_id)
        for row in await calls.repeat(session, repeated, policy)
    ]


async def settle_strangers(session: AsyncSession, known: Collection[str], policy: Policy) -> list[str]:
    """Deals with calls of providers that are not configured any more: they wait for a receipt, and end with their
    window. Returns those providers."""
    strangers = [name for name in await calls.providers(session) if name not in known]
    for name in strangers:
        await settle_calls(session, name, 0, policy, replay=False)
    return strangers


async def states(session: AsyncSession, asked: Sequence[ScheduleRun]) -> list[RunState]:
    """What is known of these dispatches, in order."""
    rows = await repository.states(session, {(item.schedule_id, item.run) for item in asked})
    found = {(row.schedule_id, row.run): row for row in rows}
    return [_state(item, found.get((item.schedule_id, item.run))) for item in asked]


def _state(item: ScheduleRun, row: Row[Any] | None) -> RunState:
    if row is None:
        return RunState(**item.model_dump(), state="unknown_here")
    if row.status not in ("sent", "delivered", "failed"):
        return RunState(**item.model_dump(), state="open")
    return RunState(**item.model_dump(), state=row.status, event=outcome_event(row).model_dump(mode="json"))


async def hear_contacts(session: AsyncSession, events: Sequence[ContactChanged]) -> None:
    """Keeps who has opted out: the newest version of each contact. A confirmed consent lifts the stop of the number."""
    newest: dict[tuple[str, int], ContactState] = {}
    confirmed = []
    for event in events:
        for contact in event.contacts:
            key = (event.organisation_id, contact.contact_id)
            if key not in newest or newest[key].version < contact.version:
                newest[key] = contact
            if contact.opt_in_confirmed_at is not None and not contact.opt_out:
                confirmed.append((event.organisation_id, contact.phone, contact.opt_in_confirmed_at))
    await repository.hear_contacts(session, _in_order(newest))
    await stops.confirm_opt_ins(session, confirmed)


def _in_order(changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Sorted by key, so that two transactions lock the same rows in the same order."""
    return dict(sorted(changes.items()))


async def republish_outcomes(session: AsyncSession, since: datetime, after: int, batch: int) -> int | None:
    """Publishes again a batch of the outcomes that messages have come to since then.

    `after` is where the last batch ended, 0 at first; returns where this one did, None when there is no more.
    """
    rows = await repository.outcomes_since_all_tenants(session, since, after, batch)
    await publish(session, [outcome_event(row) for row in rows])
    return int(rows[-1].id) if len(rows) == batch else None
