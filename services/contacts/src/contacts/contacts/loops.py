"""Apply opt-outs to contacts that were locked or uncommitted when the opt-out arrived."""

from common.database import Database
from contacts.contacts import service


async def apply_opt_outs(database: Database) -> bool:
    """Apply recent opt-outs and opt-ins to up to 500 contacts. Return whether there may be more."""
    async with database.all_tenants() as session:
        return await service.apply_opt_outs(session)
