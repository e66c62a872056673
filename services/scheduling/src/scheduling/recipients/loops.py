"""Periodic work on the stored contact changes."""

from common.database import Database
from scheduling.recipients import service


async def delete_old_changes(database: Database) -> bool:
    """Delete contact changes that are older than a day. Return False: once an hour is enough."""
    async with database.all_tenants() as session:
        await service.delete_old_changes(session)
    return False
