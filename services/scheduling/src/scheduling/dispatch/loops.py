"""The loop that dispatches due schedules."""

from common.database import Database
from scheduling.dispatch import service
from scheduling.settings import Settings


async def dispatch_due(database: Database, settings: Settings) -> bool:
    """Claim and dispatch once. Return whether there may be more to claim at once."""
    async with database.all_tenants() as session:
        return await service.dispatch_due(
            session,
            window=settings.bulk_window,
            max_parts=settings.sms_max_parts,
            sweep_after_s=settings.sweep_after_s,
        )
