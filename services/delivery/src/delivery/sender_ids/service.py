"""Use cases of sender IDs: which organisation may send from a number or name.

An operator assigns them, because the account at the provider is the operator's. Tenants only read their own.
"""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from delivery.models import SenderIdRow
from delivery.sender_ids import repository


async def sender_id_owners(session: AsyncSession, sender_ids: Collection[str]) -> dict[str, str]:
    """Return sender ID (canonical) → organisation, for those that are assigned and that the session may see."""
    return await repository.owners(session, sender_ids)


async def list_all_tenants(session: AsyncSession) -> list[SenderIdRow]:
    """Return every assigned sender ID, by organisation."""
    return await repository.list_all_tenants(session)


async def assign(session: AsyncSession, sender_id: str, organisation_id: str) -> str:
    """Assign a sender ID (canonical) to an organisation. Return the organisation that owns it then.

    A sender ID that another organisation owns stays where it is. The session must see all organisations.
    """
    return await repository.assign_all_tenants(session, sender_id, organisation_id)


async def remove(session: AsyncSession, sender_id: str) -> str | None:
    """Remove a sender ID (canonical) from its organisation. Return that organisation, or None when it had none.

    The session must see all organisations. Within a second its messages come from the provider's default sender ID.
    """
    return await repository.remove_all_tenants(session, sender_id)
