"""Consumers of organisations: those that were closed or opened again."""

from collections.abc import Sequence

from common.batches import Record
from common.bus import consume
from common.database import Database
from common.events import OrganisationChanged
from delivery.organisations import service


async def on_organisation_changed(database: Database, records: Sequence[Record]) -> None:
    """Apply organisations that contacts closed or opened again."""
    await consume(database, OrganisationChanged, records, service.apply_organisation_changes)
