"""Periodic work on what providers told."""

from collections.abc import Iterable
from functools import partial

import structlog

from common.database import Database, in_transaction, is_transient
from common.loops import Loop
from delivery.providers.base import Provider
from delivery.receipts import service
from delivery.inbound.service import ReplyPolicy
from delivery.settings import Settings

log = structlog.get_logger()


async def apply_notices(database: Database, policy: ReplyPolicy) -> bool:
    """Lets the notices that are due count. True when there may be more.

    One that the database or our own code refuses must not hold up the others: then they are taken one by one, and it
    is set aside.
    """
    apply = partial(service.apply_notices, policy=policy)
    try:
        return await in_transaction(database.all_tenants, apply) == service.BATCH
    except Exception as error:
        if is_transient(error):
            raise
        log.error("notices are taken one by one", error=type(error).__name__)
    for _ in range(service.BATCH):
        try:
            if not await in_transaction(database.all_tenants, partial(apply, most=1)):
                return False
        except Exception as error:
            if is_transient(error):
                raise
            await in_transaction(database.all_tenants, service.set_aside)
    return True


async def forget_notices(database: Database) -> bool:
    """Removes old ones. True when there may be more."""
    async with database.all_tenants() as session:
        return await service.forget_notices(session)


def make_loops(database: Database, settings: Settings, providers: Iterable[Provider]) -> list[Loop]:
    """Both of them, for the worker."""
    return [
        Loop("apply_notices", partial(apply_notices, database, ReplyPolicy.of(settings, providers)), 0.1),
        Loop("forget_notices", partial(forget_notices, database), 3600.0),
    ]
