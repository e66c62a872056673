"""The consumer of due schedules."""

import asyncio
from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.batches import Record
from common.bus import consume
from common.database import Database
from common.events import ScheduleDue
from delivery.messages import service


async def on_schedule_due(
    database: Database, wakes: Iterable[asyncio.Event], deadline_s: float, records: Sequence[Record]
) -> None:
    """Add a batch of due messages, then set `wakes`: the events that wake the provider workers."""

    async def add(session: AsyncSession, events: list[ScheduleDue]) -> None:
        await service.add_due(session, events, deadline_s)

    await consume(database, ScheduleDue, records, add)
    for wake in wakes:
        wake.set()
