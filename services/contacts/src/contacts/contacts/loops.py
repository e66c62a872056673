"""What was written while a stop was being heard."""

from common.database import Database
from contacts.contacts import service


async def apply_opt_outs(database: Database) -> bool:
    """Brings some contacts to what was heard of their numbers; true when there may be more."""
    async with database.all_tenants() as session:
        return await service.apply_opt_outs(session)
