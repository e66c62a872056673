"""The loops of delivery: claim and send, write results, retry, settle what is unknown."""

from collections.abc import Iterable

from common.database import Database, in_transaction
from delivery.messages import service
from delivery.messages.sender import Sender

_RESULTS = 500


async def send_queued(database: Database, sender: Sender) -> bool:
    """Claims what the free requests can take, commits, and starts the requests. True when there may be more."""
    async with sender.claiming:
        slots = await sender.wait_for_slots()
        if not slots:
            return True
        was_turned = any(sender.turns.values())
        async with database.all_tenants() as session:
            calls = await service.claim_calls(
                session, sender.message_format, sender.provider, slots, sender.turns, sender.policy
            )
        for call in calls:
            sender.start(call)
    return bool(calls) or was_turned


async def record_results(database: Database, sender: Sender) -> bool:
    """Writes what the requests brought, in one batch with its events. They are kept until they are written."""
    batch = sender.results[:_RESULTS]
    if not batch:
        return False
    await in_transaction(database.all_tenants, lambda session: service.finish(session, batch, sender.policy))
    del sender.results[: len(batch)]
    return len(sender.results) >= _RESULTS


async def queue_retries(database: Database, senders: Iterable[Sender]) -> bool:
    """Puts back into the queue what has waited for its next attempt. True when there may be more."""
    async with database.all_tenants() as session:
        queued = await service.queue_retries(session)
    if queued:
        for sender in senders:
            sender.wake.set()
    return queued == service.RETRIES


async def settle_calls(database: Database, sender: Sender) -> bool:
    """Ends leases that ran out, repeats calls of unknown outcome, ends those whose time is over."""
    async with sender.claiming:
        async with database.all_tenants() as session:
            calls = await service.settle_calls(session, sender.provider, sender.free_slots(), sender.policy)
        for call in calls:
            sender.start(call)
    return bool(calls)


async def drain(database: Database, sender: Sender) -> None:
    """The end: what is in flight is waited for, and written."""
    await sender.drain()
    while sender.results:
        await record_results(database, sender)
