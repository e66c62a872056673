"""What delivery asks scheduling."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from common.caller import system
from common.clients import ServiceClient


async def known_holds(client: ServiceClient, references: Collection[UUID]) -> set[UUID]:
    """Which of the holds some schedule there still has. Raises Unavailable."""
    body = {"references": [str(reference) for reference in references]}
    answer = await client.call(system(), "POST", "/internal/holds/known/", json=body)
    return {UUID(reference) for reference in answer["known"]}


async def used_media(client: ServiceClient, names: Collection[str], since: datetime) -> set[str]:
    """Which of the files a schedule there names that is open, or had its time or was changed after `since`.

    Raises Unavailable.
    """
    body = {"names": list(names), "since": since.isoformat()}
    answer = await client.call(system(), "POST", "/internal/media/used/", json=body)
    return set(answer["used"])
