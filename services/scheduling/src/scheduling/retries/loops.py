"""The loop that continues the retries of large batches."""

from common.database import Database
from scheduling.retries import service


async def continue_retries(database: Database) -> bool:
    """Reopen the next failed messages of one batch. Return whether there was such a batch."""
    async with database.all_tenants() as session:
        return await service.continue_retries(session)
