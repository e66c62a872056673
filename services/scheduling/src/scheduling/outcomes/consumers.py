"""Consume what delivery reports about messages."""

from collections.abc import Sequence

from common.batches import Record
from common.bus import consume_topics
from common.database import Database
from common.events import MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from scheduling.outcomes import service
from scheduling.outcomes.rules import OutcomeEvent

OUTCOMES: tuple[type[OutcomeEvent], ...] = (MessageSent, MessageFailed, MessageDelayed, MessageDelivered)
_BY_TOPIC: dict[str, type[OutcomeEvent]] = {event.topic: event for event in OUTCOMES}


async def on_outcomes(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of outcomes, of whichever kind, in one transaction."""
    await consume_topics(database, _BY_TOPIC, records, service.apply_outcomes)
