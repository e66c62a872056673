"""Periodic checks of reservations and usage."""

from datetime import UTC, datetime

import structlog

from common.clients import ServiceClient
from common.database import Database
from delivery import metrics
from delivery.clients.scheduling import known_reservations
from delivery.limits import service

log = structlog.get_logger()

_BATCH = 200


async def check_reservations(database: Database, scheduling: ServiceClient) -> bool:
    """Ask scheduling about reservations that still exist after 90 s. Release those that it does not know.

    Return whether there may be more.
    """
    async with database.all_tenants() as session:
        due = await service.due_reservations(session, _BATCH)
    if not due:
        return False
    known = await known_reservations(scheduling, due)
    async with database.all_tenants() as session:
        await service.keep_known_reservations(session, due, known)
    return len(due) == _BATCH


async def report_drift(database: Database) -> bool:
    """Log usage that messages and reservations do not add up to. Nothing is corrected. Return False."""
    async with database.all_tenants() as session:
        rows = await service.find_drift(session, datetime.now(UTC).date())
    metrics.set_limit_drift(row.format for row in rows)
    for row in rows:
        log.error(
            "limit usage differs",
            organisation=row.organisation_id,
            period=str(row.period),
            format=row.format,
            usage=row.usage,
            counted=row.counted,
        )
    return False
