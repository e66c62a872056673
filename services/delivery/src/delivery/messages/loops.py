"""Periodic work on messages that wait: queue retries, and fail what is past its deadline."""

import asyncio
from collections.abc import Iterable

from common.database import Database
from delivery.messages import service


async def queue_retries(database: Database, wakes: Iterable[asyncio.Event]) -> bool:
    """Queue messages whose back-off is over, and set `wakes`, which wake the provider workers.

    Return whether there may be more.
    """
    async with database.all_tenants() as session:
        queued = await service.queue_retries(session)
    if queued:
        for wake in wakes:
            wake.set()
    return queued == service.BATCH


async def expire(database: Database) -> bool:
    """Fail messages that wait past their deadline. Return whether there may be more."""
    async with database.all_tenants() as session:
        return await service.expire(session) == service.BATCH
