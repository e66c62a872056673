"""The loops of sending: claim and submit, record results, resolve submissions."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial

from common.database import Database, in_transaction
from common.logs import StateLog
from common.loops import Loop, report_rows
from delivery.models import PAUSES, QUEUED, SUBMISSIONS
from delivery.pauses import service as pauses
from delivery.sending import service
from delivery.sending.provider_worker import ProviderWorker
from delivery.sending.routing import Router
from delivery.sending.rules import LanePositions, SendingPolicy

_MAX_RESULTS = 500
_SLOW_S = 30.0  # an event wakes a loop as soon as it has work
_RESULTS_INTERVAL_S = 0.1
_CLAIM_INTERVAL_S = 0.05
_paused = StateLog("providers paused", "providers resumed")
_unconfigured = StateLog("provider not configured", "provider configured")


async def send_queued(database: Database, router: Router, worker: ProviderWorker) -> bool:
    """Claim what the free requests can send, commit, and start the requests. Return whether there may be more."""
    async with worker.claiming:
        if not await worker.wait_until_free():
            return True
        # A round that began in the middle has not seen the organisations before it.
        began_later = any(positions != LanePositions() for positions in worker.positions.values())
        is_full = False
        for message_format in worker.next_formats():
            is_full |= await _send(database, router, worker, message_format)
    return is_full or began_later


async def _send(database: Database, router: Router, worker: ProviderWorker, message_format: str) -> bool:
    """Claim and start what can be sent of a format. Return whether there may be more."""
    capacity = worker.capacity(message_format)
    if capacity is None:
        return True
    async with database.all_tenants() as session:
        claim = await service.claim_submissions(
            session, worker.provider, router=router, capacity=capacity, policy=worker.policy
        )
    # The claim is committed. Only now the positions move and the requests leave, so a rollback changes neither.
    worker.positions[message_format] = claim.positions
    for submission in claim.submissions:
        worker.start(submission)
    report_rows(sum(len(submission.message_ids) for submission in claim.submissions))
    return claim.is_full


async def record_results(database: Database, worker: ProviderWorker) -> bool:
    """Write the results of requests in one batch, with their events. Return whether there may be more.

    Results stay in `worker.results` until the commit.
    """
    batch = worker.results[:_MAX_RESULTS]
    if not batch:
        return False
    await in_transaction(database.all_tenants, partial(service.record_results, results=batch, policy=worker.policy))
    del worker.results[: len(batch)]
    report_rows(len(batch))
    return len(worker.results) >= _MAX_RESULTS


async def resolve_submissions(database: Database, worker: ProviderWorker) -> bool:
    """End leases, resend submissions whose outcome is not known, give up those whose time is over.

    Return whether there may be more.
    """
    async with worker.claiming:
        async with database.all_tenants() as session:
            submissions = await service.resolve_submissions(
                session,
                worker.provider.name,
                worker.free_slots(),
                worker.policy,
                deduplicates=worker.provider.deduplicates,
                handles_opt_outs=worker.provider.handles_opt_outs,
            )
        for submission in submissions:
            worker.start(submission)
    report_rows(len(submissions))
    return bool(submissions)


async def give_up_unconfigured(database: Database, configured: Collection[str], policy: SendingPolicy) -> bool:
    """Give up submissions of providers that are not configured any more, when their time is over. Return False."""
    async with database.all_tenants() as session:
        unconfigured = await service.give_up_unconfigured(session, configured, policy)
    _unconfigured.update(bool(unconfigured), providers=unconfigured)
    return False


async def update_paused_workers(database: Database, workers: Sequence[ProviderWorker]) -> bool:
    """Update `paused_since` of each worker, which its health reports.

    Return False, because a further step finds no more work. A claim checks the pauses by itself.
    """
    async with database.all_tenants() as session:
        paused = await pauses.find_paused_providers(session)
    for worker in workers:
        worker.paused_since = paused.get(worker.provider.name)
    _paused.update(bool(paused), providers=sorted(paused))
    return False


async def drain(database: Database, worker: ProviderWorker) -> None:
    """Wait for the requests that were started, and record their results."""
    await worker.drain()
    while worker.results:
        await record_results(database, worker)


def make_loops(database: Database, router: Router, workers: Sequence[ProviderWorker]) -> list[Loop]:
    """Return the loops of all providers."""
    pauses_changed = database.wakes.event(PAUSES)
    return [
        Loop("update_paused_workers", partial(update_paused_workers, database, workers), _SLOW_S, pauses_changed),
        *(loop for worker in workers for loop in _make_loops(database, router, worker)),
    ]


def _make_loops(database: Database, router: Router, worker: ProviderWorker) -> list[Loop]:
    """Return the loops of one provider."""
    name, submissions_due = worker.provider.name, asyncio.Event()
    database.wakes.add(QUEUED, worker.wake)
    database.wakes.add(SUBMISSIONS, submissions_due)
    return [
        Loop(
            f"send_queued {name}",
            partial(send_queued, database, router, worker),
            _SLOW_S,
            wake=worker.wake,
            min_interval_s=_CLAIM_INTERVAL_S,
        ),
        Loop(
            f"record_results {name}",
            partial(record_results, database, worker),
            _SLOW_S,
            wake=worker.has_results,
            min_interval_s=_RESULTS_INTERVAL_S,
        ),
        Loop(f"resolve_submissions {name}", partial(resolve_submissions, database, worker), _SLOW_S, submissions_due),
    ]
