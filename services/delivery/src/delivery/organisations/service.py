"""Which organisations are closed."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.events import OrganisationChanged
from delivery.errors import OrganisationClosed
from delivery.organisations import repository


async def refuse_closed(session: AsyncSession) -> None:
    """Raises OrganisationClosed in the session of an organisation that is closed."""
    if await repository.is_closed(session):
        raise OrganisationClosed


async def hear_organisations(session: AsyncSession, events: Sequence[OrganisationChanged]) -> None:
    """Keeps which organisations are closed: the newest version of each."""
    newest: dict[str, OrganisationChanged] = {}
    for event in events:
        known = newest.get(event.organisation_id)
        if known is None or known.version < event.version:
            newest[event.organisation_id] = event
    # Sorted, so that two transactions lock the same rows in the same order.
    await repository.keep_all_tenants(session, [newest[organisation_id] for organisation_id in sorted(newest)])
