"""Consumers of opt-outs: contacts that changed."""

from collections.abc import Sequence

from common.batches import Record
from common.bus import consume
from common.database import Database
from common.events import ContactChanged
from delivery.opt_outs import service


async def on_contact_changed(database: Database, records: Sequence[Record]) -> None:
    """Apply contacts that opted out or in at contacts."""
    await consume(database, ContactChanged, records, service.apply_contact_changes)
