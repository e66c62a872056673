"""Settings that changed."""

from collections.abc import Sequence

from common.bus import Record, consume
from common.database import Database
from common.events import SettingsChanged
from scheduling.organisations import service


async def on_settings_changed(database: Database, records: Sequence[Record]) -> None:
    await consume(database, SettingsChanged, records, service.follow_settings)
