"""Use cases of pauses: while an organisation or a provider is paused, nothing of it is claimed.

Its messages stay queued and expire at their deadline. Requests in flight end normally, and delivery receipts, inbound
messages and webhooks are handled as usual. An operator pauses and resumes.
"""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.database import wake_after_commit
from delivery.models import PAUSES, QUEUED, SUBMISSIONS, PauseKind, PauseRow
from delivery.pauses import repository


async def pause(
    session: AsyncSession, kind: PauseKind, name: str, *, operator: str, reason: str
) -> tuple[PauseRow, bool]:
    """Pause an organisation or a provider. Return its pause, and whether it is new. A pause is never replaced."""
    is_new = await repository.add_all_tenants(session, kind, name, operator=operator, reason=reason)
    wake_after_commit(session, PAUSES)
    return await repository.get_all_tenants(session, kind, name), is_new


async def resume(session: AsyncSession, kind: PauseKind, name: str) -> PauseRow | None:
    """End a pause and wake the provider workers. Return the pause, or None when there is none."""
    removed = await repository.remove_all_tenants(session, kind, name)
    for event in (PAUSES, QUEUED, SUBMISSIONS):
        wake_after_commit(session, event)
    return removed


async def list_pauses(session: AsyncSession) -> list[PauseRow]:
    """Return every pause, organisations before providers, by name."""
    return await repository.list_all_tenants(session)


async def find_paused_providers(session: AsyncSession) -> dict[str, datetime]:
    """Return paused provider → since when."""
    return await repository.providers(session)
