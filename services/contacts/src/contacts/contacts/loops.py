"""Apply opt-outs to contacts that were locked or uncommitted when the opt-out arrived, and clean the search index."""

from common.database import Database
from contacts.contacts import service

_MANY_PAGES = 64  # about 900 new contacts
_SOON_S = 0.2


async def apply_opt_outs(database: Database) -> bool:
    """Apply recent opt-outs and opt-ins to up to 500 contacts. Return whether there may be more."""
    async with database.all_tenants() as session:
        return await service.apply_opt_outs(session)


async def clean_search_index(database: Database) -> float:
    """Move new entries of the search index out of its pending list, which slows every search down.

    Return a short pause while an import goes on. Moving the entries of few contacts at once would be costly.
    """
    async with database.all_tenants() as session:
        pages = await service.clean_search_index(session)
    return _SOON_S if pages >= _MANY_PAGES else 0.0
