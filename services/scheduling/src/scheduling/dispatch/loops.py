"""The loop that dispatches due schedules."""

from common.database import Database
from scheduling.dispatch import service
from scheduling.settings import Settings


async def dispatch_due(database: Database, settings: Settings) -> bool | float:
    """Claim and dispatch once. Return True when there may be more to claim at once, else the pause in seconds."""
    async with database.all_tenants() as session:
        more = await service.dispatch_due(
            session,
            window=settings.bulk_window,
            max_parts=settings.sms_max_parts,
            sweep_after_s=settings.sweep_after_s,
        )
        return more or await service.seconds_to_next(session)
