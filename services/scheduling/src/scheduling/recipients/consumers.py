"""Consume changed contacts."""

from collections.abc import Sequence

from common.batches import Record
from common.bus import consume
from common.database import Database
from common.events import ContactChanged
from scheduling.recipients import service


async def on_contact_changed(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of ContactChanged."""
    await consume(database, ContactChanged, records, service.apply_contact_changed)
