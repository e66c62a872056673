"""Periodic work on messages that wait: queue retries, and fail what is past its deadline."""

import asyncio
from collections.abc import Iterable

from common.database import Database
from common.loops import report_rows
from delivery.messages import service


async def queue_retries(database: Database, wakes: Iterable[asyncio.Event]) -> bool:
    """Queue messages whose back-off is over, and set `wakes`, which wake the provider workers.

    Return whether there may be more.
    """
    async with database.all_tenants() as session:
        queued = await service.queue_retries(session)
    report_rows(queued)
    if queued:
        for wake in wakes:
            wake.set()
    return queued == service.BATCH


async def expire(database: Database) -> bool:
    """Fail messages that wait past their deadline. Return whether there may be more."""
    async with database.all_tenants() as session:
        expired = await service.expire(session)
    report_rows(expired)
    return expired == service.BATCH
