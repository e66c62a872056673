"""Housekeeping."""

from common.database import Database
from scheduling.recipients import service


async def forget_old_changes(database: Database) -> bool:
    async with database.all_tenants() as session:
        await service.forget_old_changes(session)
    return False
