"""What delivery hears: schedules that are due, contacts that changed."""

from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.bus import Record, consume
from common.database import Database
from common.events import ContactChanged, ScheduleDue
from delivery.messages import service
from delivery.messages.sender import Sender


async def on_schedule_due(
    database: Database, senders: Iterable[Sender], deadline_s: float, records: Sequence[Record]
) -> None:
    """Takes in a batch, then wakes the senders."""

    async def take_in(session: AsyncSession, events: list[ScheduleDue]) -> None:
        await service.take_in(session, events, deadline_s)

    await consume(database, ScheduleDue, records, take_in)
    for sender in senders:
        sender.wake.set()


async def on_contact_changed(database: Database, records: Sequence[Record]) -> None:
    await consume(database, ContactChanged, records, service.hear_contacts)
