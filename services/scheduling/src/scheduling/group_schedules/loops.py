"""What is done behind a batch that was accepted."""

from common.caller import system
from common.database import Database
from common.errors import NotFound
from scheduling.clients import Neighbours
from scheduling.clients.contacts import Members
from scheduling.group_schedules import service


async def expand_groups(database: Database, neighbours: Neighbours) -> bool:
    """One page of members of one batch; true when there was one."""
    async with database.all_tenants() as session:
        expansion = await service.claim_expansion(session)
    if expansion is None:
        return False
    try:
        members = await neighbours.contacts.page_members(
            system(expansion.organisation_id),
            expansion.group_id,
            expansion.cursor,
            service.EXPANSION_PAGE,
            expansion.accepted_at,
        )
    except NotFound:
        members = Members(members=[], next=None)
    async with database.all_tenants() as session:
        await service.expand(session, expansion, members)
    return True


async def retry_groups(database: Database) -> bool:
    """Some failed messages of one batch go again; true when there was one."""
    async with database.all_tenants() as session:
        return await service.retry_more(session)


async def end_groups(database: Database) -> bool:
    """Ends batches; true when there may be more."""
    async with database.all_tenants() as session:
        return await service.end_finished(session)


async def release_holds(database: Database, neighbours: Neighbours) -> bool:
    """Gives back what ended batches did not use. While delivery is away the loop fails, and tries again."""
    async with database.all_tenants() as session:
        ended = await service.find_ended_holds(session)
    for parent_id, organisation_id, hold in ended:
        async with database.all_tenants() as session:
            await service.release_hold(session, neighbours, parent_id, organisation_id, hold)
    return bool(ended)
