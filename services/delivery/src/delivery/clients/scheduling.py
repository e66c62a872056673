"""Calls to scheduling's internal API."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from common.caller import system
from common.clients import ServiceClient


async def known_reservations(client: ServiceClient, references: Collection[UUID]) -> set[UUID]:
    """Return those of the reservations that a schedule still has. Raises Unavailable."""
    body = {"references": [str(reference) for reference in references]}
    answer = await client.call(system(), "POST", "/internal/reservations/known/", json=body)
    return {UUID(reference) for reference in answer["known"]}


async def used_media(client: ServiceClient, names: Collection[str], since: datetime) -> set[str]:
    """Return those of the files that a schedule uses.

    A schedule counts that is open, or whose time or last change is after `since`. Raises Unavailable.
    """
    body = {"names": list(names), "since": since.isoformat()}
    answer = await client.call(system(), "POST", "/internal/media/used/", json=body)
    return set(answer["used"])
