"""Delivery's word on numbers that stopped."""

from collections.abc import Sequence

from common.bus import Record, consume
from common.database import Database
from common.events import StopChanged
from contacts.contacts import service


async def on_stop_changed(database: Database, records: Sequence[Record]) -> None:
    await consume(database, StopChanged, records, service.follow_stops)
