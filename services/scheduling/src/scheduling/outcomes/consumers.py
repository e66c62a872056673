"""Consume what delivery reports about messages."""

from collections.abc import Sequence

from common.bus import Record, consume
from common.database import Database
from common.events import MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from scheduling.outcomes import service


async def on_message_sent(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of MessageSent."""
    await consume(database, MessageSent, records, service.apply_outcomes)


async def on_message_failed(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of MessageFailed."""
    await consume(database, MessageFailed, records, service.apply_outcomes)


async def on_message_delayed(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of MessageDelayed."""
    await consume(database, MessageDelayed, records, service.apply_outcomes)


async def on_message_delivered(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of MessageDelivered."""
    await consume(database, MessageDelivered, records, service.apply_outcomes)
