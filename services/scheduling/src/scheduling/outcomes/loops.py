"""Ask delivery about schedules that stay in processing for longer than `SWEEP_AFTER_S`."""

from common.database import Database
from scheduling.clients.services import OtherServices
from scheduling.outcomes import service
from scheduling.settings import Settings


async def sweep(database: Database, services: OtherServices, settings: Settings) -> bool:
    """Ask about at most 500 schedules and apply the answer. Return whether there may be more."""
    async with database.all_tenants() as session:
        overdue = await service.find_overdue(session)
    if not overdue:
        return False
    reports = await services.delivery.find_states(overdue)
    async with database.all_tenants() as session:
        await service.apply_reports(session, reports, settings.sweep_after_s)
    return len(overdue) == service.BATCH
