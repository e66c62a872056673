"""Periodic work on media: what nobody needs is removed."""

from datetime import UTC, datetime, timedelta

import structlog

from common.clients import ServiceClient
from common.database import Database
from delivery.clients.scheduling import used_media
from delivery.media import service
from delivery.storage.base import Storage, StorageFault

log = structlog.get_logger()

_BATCH = 200
_PAUSE = timedelta(days=1)


async def remove_old_media(
    database: Database, storage: Storage, scheduling: ServiceClient, retention: timedelta
) -> bool:
    """Removes files that are older than the retention and that no schedule needs: none still to be sent names them,
    and none that was sent, failed or changed within the retention, so that it can be retried.

    Scheduling knows every MMS, before and after it is delivery's. When it cannot be asked, nothing is removed.
    """
    async with database.all_tenants() as session:
        due = await service.claim_due(session, storage, _BATCH)
    if not due:
        return False
    now = datetime.now(UTC)
    since = now - retention
    old = [media for media in due if media.created_at < since]
    used = await used_media(scheduling, [media.name for media in old], since) if old else set()
    unneeded = [media for media in old if media.name not in used]
    removed = []
    for media in unneeded:
        try:
            await storage.delete(media.name)
            removed.append(media.id)
        except StorageFault as fault:
            log.error("media cannot be removed", storage=storage.name, error=repr(fault.__cause__)[:300])
    gone = {media.id for media in unneeded}
    needed = {media.id: max(media.created_at + retention, now + _PAUSE) for media in due if media.id not in gone}
    async with database.all_tenants() as session:
        await service.settle(session, needed, removed)
    if removed:
        log.info("old media removed", count=len(removed))
    return len(due) == _BATCH
