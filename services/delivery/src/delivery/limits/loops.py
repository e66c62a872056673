"""Periodic work on holds and limits."""

from datetime import UTC, datetime

import structlog

from common.clients import ServiceClient
from common.database import Database
from delivery.clients.scheduling import known_holds
from delivery.limits import service

log = structlog.get_logger()

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


async def report_drift(database: Database) -> bool:
    """Says where the places taken are not what messages and holds add up to; mends nothing."""
    async with database.all_tenants() as session:
        rows = await service.find_drift(session, datetime.now(UTC).date())
    for row in rows:
        log.error(
            "limit drifts",
            organisation=row.organisation_id,
            period=str(row.period),
            format=row.format,
            taken=row.taken,
            counted=int(row.counted),
        )
    return False
