"""Contacts that changed."""

from collections.abc import Sequence

from common.bus import Record, consume
from common.database import Database
from common.events import ContactChanged
from scheduling.recipients import service


async def on_contact_changed(database: Database, records: Sequence[Record]) -> None:
    await consume(database, ContactChanged, records, service.follow_contacts)
