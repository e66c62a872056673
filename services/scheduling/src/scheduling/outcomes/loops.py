"""The sweeper: whoever waits too long asks."""

from common.database import Database
from scheduling.clients import Neighbours
from scheduling.outcomes import service
from scheduling.settings import Settings


async def sweep(database: Database, neighbours: Neighbours, settings: Settings) -> bool:
    """One question to delivery about at most 500 schedules; true when there may be more."""
    async with database.all_tenants() as session:
        overdue = await service.find_overdue(session)
    if not overdue:
        return False
    reports = await neighbours.delivery.find_states(overdue)
    async with database.all_tenants() as session:
        await service.settle_overdue(session, reports, settings.sweep_after_s)
    return len(overdue) == service.BATCH
