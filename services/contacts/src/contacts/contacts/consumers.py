"""Consume the opt-outs and opt-ins of numbers that delivery publishes."""

from collections.abc import Sequence

from common.batches import Record
from common.bus import consume
from common.database import Database
from common.events import OptOutChanged
from contacts.contacts import service


async def on_opt_out_changed(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of opt-outs and opt-ins."""
    await consume(database, OptOutChanged, records, service.apply_opt_out_changed)
