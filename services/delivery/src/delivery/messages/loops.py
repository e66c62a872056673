"""The loops of delivery: claim and send, write results, retry, expire, settle what is unknown."""

from collections.abc import Collection, Iterable
from functools import partial

import structlog

from common.database import Database, in_transaction
from common.loops import Loop
from delivery.messages import service
from delivery.messages.routes import Router
from delivery.messages.rules import Call, Policy
from delivery.messages.sender import Sender

log = structlog.get_logger()

_RESULTS = 500


async def send_queued(database: Database, router: Router, sender: Sender) -> bool:
    """Claims what the free requests can take, commits, and starts the requests. True when there may be more."""
    async with sender.claiming:
        if not await sender.wait_until_free():
            return True
        was_turned = any(after for turns in sender.turns.values() for after in turns.values())
        sender.formats.rotate()
        started = 0
        for message_format in sender.formats:
            calls = await _claim(database, router, sender, message_format)
            for call in calls:
                sender.start(call)
            started += len(calls)
    return started > 0 or was_turned


async def _claim(database: Database, router: Router, sender: Sender, message_format: str) -> list[Call]:
    async with database.all_tenants() as session:
        order = router.order(await router.read(session), sender, message_format)
        if order is None:
            return []
        return await service.claim_calls(session, order, sender.provider, sender.bucket, sender.policy)


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
            calls = await service.settle_calls(
                session,
                sender.provider.name,
                sender.free_slots(),
                sender.policy,
                replay=sender.provider.idempotent,
                refuses_stopped=sender.provider.answers_stop,
            )
        for call in calls:
            sender.start(call)
    return bool(calls)


async def settle_strangers(database: Database, known: Collection[str], policy: Policy) -> bool:
    """Ends calls of providers that are not configured any more, when their time is over."""
    async with database.all_tenants() as session:
        strangers = await service.settle_strangers(session, known, policy)
    if strangers:
        log.warning("calls of providers that are not configured wait for their end", providers=strangers)
    return False


async def expire(database: Database) -> bool:
    """Fails what has waited past its deadline. True when there may be more."""
    async with database.all_tenants() as session:
        return await service.expire(session) == service.RETRIES


async def drain(database: Database, sender: Sender) -> None:
    """The end: what is in flight is waited for, and written."""
    await sender.drain()
    while sender.results:
        await record_results(database, sender)


def make_loops(database: Database, router: Router, sender: Sender) -> list[Loop]:
    """What runs for each provider."""
    name = sender.provider.name
    return [
        Loop(f"send_queued {name}", partial(send_queued, database, router, sender), 0.2, sender.wake),
        Loop(f"record_results {name}", partial(record_results, database, sender), 0.03),
        Loop(f"settle_calls {name}", partial(settle_calls, database, sender), 1.0),
    ]
