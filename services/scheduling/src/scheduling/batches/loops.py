"""The loops that work on accepted batches: fan-out, finish, release of reservations."""

from common.caller import system
from common.database import Database
from common.errors import NotFound
from common.loops import report_rows
from scheduling.batches import service
from scheduling.clients.contacts import Members
from scheduling.clients.services import OtherServices


async def fan_out_batches(database: Database, services: OtherServices) -> bool:
    """Read one page of members of one batch and write their messages. Return whether there was such a batch."""
    async with database.all_tenants() as session:
        claim = await service.claim_fan_out(session)
    if claim is None:
        return False
    try:
        members = await services.contacts.page_members(
            caller=system(claim.organisation_id),
            group_id=claim.group_id,
            after=claim.cursor,
            limit=service.FAN_OUT_PAGE,
            joined_before=claim.accepted_at,
        )
    except NotFound:
        members = Members(members=[], next=None)
    async with database.all_tenants() as session:
        await service.fan_out(session, claim, members)
    report_rows(len(members.members))
    return True


async def finish_batches(database: Database) -> bool:
    """Finish batches without open messages. Return whether there may be more."""
    async with database.all_tenants() as session:
        return await service.finish_batches(session)


async def release_reservations(database: Database, services: OtherServices) -> bool:
    """Release the unused parts of finished batches. Return whether there were any.

    While delivery is unavailable the loop fails and retries.
    """
    async with database.all_tenants() as session:
        reservations = await service.find_reservations_to_release(session)
    for reservation in reservations:
        async with database.all_tenants() as session:
            await service.release_reservation(session, services, reservation)
    return bool(reservations)
