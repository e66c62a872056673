"""Use cases of organisations: which of them are closed."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.events import OrganisationChanged
from common.versions import newest
from delivery.errors import OrganisationClosed
from delivery.organisations import repository


async def refuse_closed(session: AsyncSession) -> None:
    """Raise OrganisationClosed if the organisation of a tenant session is closed."""
    if await repository.is_closed(session):
        raise OrganisationClosed


async def apply_organisation_changes(session: AsyncSession, events: Sequence[OrganisationChanged]) -> None:
    """Save the newest version of each organisation."""
    latest = newest(events, key=lambda event: event.organisation_id, version=lambda event: event.version)
    await repository.save_all_tenants(session, latest.values())
