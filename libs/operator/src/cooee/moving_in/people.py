"""The organisations and users that rows refer to: those of v2 are taken, those of v1 are found by a file."""

from pathlib import Path

from common.fields import clean_text
from contacts.identity import service as identity
from contacts.moving_in import service as contacts
from contacts.moving_in.schemas import UserIn
from cooee.errors import NotFound, Refused
from cooee.moving_in.move import Move
from cooee.moving_in.source import Row
from cooee.moving_in.users import match_users, read_users
from cooee.moving_in.v1 import ORGANISATION


async def take_people(move: Move) -> None:
    """Take the organisations, the users and the memberships. Clerk's own reports about them count more."""
    names: dict[str, Row] = {}
    for row in await move.source.rows(move.system.table("organisation")):
        clerk_id = clean_text(row["clerk_org_id"] or "")
        if not clerk_id:
            move.problems.add("organisation", row["id"], "refused", "It has no id of Clerk.")
        elif move.organisation in (None, clerk_id):
            move.world.organisations[row["id"]], names[clerk_id] = clerk_id, row
    if move.organisation and not names:
        raise NotFound(f"the earlier system has no organisation {move.organisation}")
    await _refuse_closed(move)
    users = {str(row["id"]): _user(row) for row in await move.source.rows(move.system.table("user")) if row["clerk_id"]}
    memberships = [
        (move.world.organisations[row["organisation_id"]], str(row["user_id"]), row["role"] or "member")
        for row in await move.source.rows(move.system.table("membership"))
        if row["organisation_id"] in move.world.organisations and str(row["user_id"]) in users
    ]
    if move.is_dry_run:
        move.world.users = dict.fromkeys(users, 1)
        move.world.members = {(organisation, 1) for organisation, _, _ in memberships}
        return
    async with move.stack.session("contacts") as session:
        for clerk_id in move.organisations:
            row = names[clerk_id]
            await contacts.take_organisation(
                session, clerk_id, clean_text(row["name"] or ""), clean_text(row["slug"] or "")
            )
        known = await contacts.take_users(session, list(users.values()))
        move.world.users = {old_id: known[user.clerk_id] for old_id, user in users.items()}
        found = [(organisation, move.world.users[user], role) for organisation, user, role in memberships]
        await contacts.take_memberships(session, found, move.world.now)
    move.world.members = {(organisation, user) for organisation, user, _ in found}


async def _refuse_closed(move: Move) -> None:
    """Leave the organisations out that are closed here. Raises Refused for the one that the operator named."""
    async with move.stack.session("contacts") as session:
        for old_id, organisation in list(move.world.organisations.items()):
            found = await identity.find_organisation(session, organisation)
            if found is None or found.is_active:
                continue
            if move.organisation:
                raise Refused(f"{organisation} is closed, so nothing can move in")
            move.problems.add("organisation", old_id, "refused", "It is closed here.")
            del move.world.organisations[old_id]


def _user(row: Row) -> UserIn:
    texts = (clean_text(row[name] or "") for name in ("clerk_id", "first_name", "last_name", "email"))
    return UserIn(*texts)


async def find_people(move: Move, users: Path) -> None:
    """Find the organisation that all rows go to, and the users that a file names.

    Raises NotFound, Refused for a closed organisation, and WrongUsage for lines of the file.
    """
    organisation, lines = move.organisation or "", read_users(users)
    async with move.stack.session("contacts") as session:
        found = await identity.find_organisation(session, organisation)
        if found is None:
            raise NotFound(f"there is no organisation {organisation}: see cooee organisations list")
        if not found.is_active:
            raise Refused(f"{organisation} is closed, so nothing can move in")
        known = await identity.find_members(session, organisation, {line.clerk_id for line in lines})
    move.world.organisations = {ORGANISATION: organisation}
    move.world.users = match_users(users, lines, await move.source.rows(move.system.table("user")), known)
    move.world.members = {(organisation, user.user_id) for user in known.values() if user.is_active}
