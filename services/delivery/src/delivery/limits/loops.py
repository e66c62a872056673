"""Periodic work on holds."""

from common.clients import ServiceClient
from common.database import Database
from delivery.clients.scheduling import known_holds
from delivery.limits import service

_BATCH = 200


async def check_holds(database: Database, scheduling: ServiceClient) -> bool:
    """Asks scheduling about holds that are still there after 90 s, and releases those it does not know."""
    async with database.all_tenants() as session:
        due = await service.due_holds(session, _BATCH)
    if not due:
        return False
    known = await known_holds(scheduling, due)
    async with database.all_tenants() as session:
        await service.settle_holds(session, due, known)
    return len(due) == _BATCH
