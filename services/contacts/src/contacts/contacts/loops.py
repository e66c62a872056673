"""What was written while a stop was being heard."""

from common.database import Database
from contacts.contacts import service


async def settle_stops(database: Database) -> bool:
    """Brings some contacts to what was heard of their numbers; true when there may be more."""
    async with database.all_tenants() as session:
        return await service.settle_stops(session)
