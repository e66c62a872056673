"""What delivery asks scheduling."""

from collections.abc import Collection
from uuid import UUID

from common.caller import system
from common.clients import ServiceClient


async def known_holds(client: ServiceClient, references: Collection[UUID]) -> set[UUID]:
    """Which of the holds some schedule there still has. Raises Unavailable."""
    body = {"references": [str(reference) for reference in references]}
    answer = await client.call(system(), "POST", "/internal/holds/known/", json=body)
    return {UUID(reference) for reference in answer["known"]}
