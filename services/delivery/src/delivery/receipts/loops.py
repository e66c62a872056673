"""Periodic work on webhook events."""

from collections.abc import Iterable
from functools import partial

import structlog

from common.database import Database, in_transaction, is_transient
from common.loops import Loop, report_rows
from delivery.inbound.rules import InboundPolicy
from delivery.models import WEBHOOK_EVENTS
from delivery.providers.base import Provider
from delivery.receipts import service

log = structlog.get_logger()


async def apply_webhook_events(database: Database, policy: InboundPolicy) -> bool:
    """Apply the webhook events that are due. Return True if there may be more.

    If a batch fails because of one event, its events are applied one by one and the failing ones are postponed, so that
    they do not block the others.
    """
    apply = partial(service.apply_webhook_events, policy=policy)
    try:
        applied = await in_transaction(database.all_tenants, apply)
        report_rows(applied)
        return applied == service.BATCH
    except Exception as error:
        if is_transient(error):
            raise
        log.error("webhook events applied one by one", error=type(error).__name__)
    for _ in range(service.BATCH):
        try:
            if not await in_transaction(database.all_tenants, partial(apply, max_events=1)):
                return False
        except Exception as error:
            if is_transient(error):
                raise
            await in_transaction(database.all_tenants, service.postpone_first)
    return True


def make_loops(database: Database, providers: Iterable[Provider]) -> list[Loop]:
    """Return the loops for the worker."""
    policy = InboundPolicy.of(providers)
    return [
        Loop(
            "apply_webhook_events",
            partial(apply_webhook_events, database, policy),
            30.0,
            wake=database.wakes.event(WEBHOOK_EVENTS),
            min_interval_s=0.05,
        ),
    ]
