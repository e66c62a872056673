"""Periodic work on what providers told."""

from collections.abc import Iterable
from functools import partial

from common.database import Database, in_transaction
from common.loops import Loop
from delivery.providers.base import Provider
from delivery.receipts import service
from delivery.replies.service import ReplyPolicy
from delivery.settings import Settings


async def apply_notices(database: Database, policy: ReplyPolicy) -> bool:
    """Lets the notices that are due count. True when there may be more."""
    return await in_transaction(database.all_tenants, partial(service.apply_notices, policy=policy)) == service.BATCH


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
