"""Periodic work on media: delete files that no schedule needs."""

from datetime import UTC, datetime, timedelta

import structlog

from common.clients import ServiceClient
from common.database import Database
from delivery.clients.scheduling import used_media
from delivery.media import service
from delivery.storage.base import Storage, StorageError

log = structlog.get_logger()

_BATCH = 200
_PAUSE = timedelta(days=1)


async def remove_old_media(
    database: Database, storage: Storage, scheduling: ServiceClient, retention: timedelta
) -> bool:
    """Delete files that are older than the retention and that no schedule needs. Return True if there may be more.

    A schedule needs its file while it is to be sent, and during the retention after it was sent, failed or changed,
    because it may be retried. Scheduling knows every MMS. If scheduling is unavailable, nothing is deleted.
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
    deleted = []
    for media in unneeded:
        try:
            await storage.delete(media.name)
            deleted.append(media.id)
        except StorageError as error:
            log.error("media not deleted", storage=storage.name, error=repr(error.__cause__)[:300])
    unneeded_ids = {media.id for media in unneeded}
    needed = {
        media.id: max(media.created_at + retention, now + _PAUSE) for media in due if media.id not in unneeded_ids
    }
    async with database.all_tenants() as session:
        await service.complete_check(session, needed, deleted)
    if deleted:
        log.info("old media deleted", count=len(deleted))
    return len(due) == _BATCH
