"""Delivery's word on messages."""

from collections.abc import Sequence

from common.bus import Record, consume
from common.database import Database
from common.events import MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from scheduling.outcomes import service


async def on_message_sent(database: Database, records: Sequence[Record]) -> None:
    await consume(database, MessageSent, records, service.apply_outcomes)


async def on_message_failed(database: Database, records: Sequence[Record]) -> None:
    await consume(database, MessageFailed, records, service.apply_outcomes)


async def on_message_delayed(database: Database, records: Sequence[Record]) -> None:
    await consume(database, MessageDelayed, records, service.apply_outcomes)


async def on_message_delivered(database: Database, records: Sequence[Record]) -> None:
    await consume(database, MessageDelivered, records, service.apply_outcomes)
