"""Consume changed settings of organisations."""

from collections.abc import Sequence

from common.batches import Record
from common.bus import consume
from common.database import Database
from common.events import SettingsChanged
from scheduling.organisations import service


async def on_settings_changed(database: Database, records: Sequence[Record]) -> None:
    """Apply a batch of SettingsChanged."""
    await consume(database, SettingsChanged, records, service.apply_settings_changed)
