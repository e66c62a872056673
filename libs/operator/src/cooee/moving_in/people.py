"""Import or find the organisations and users that rows refer to: v2 has them, and a file names those of v1."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from common.fields import clean_text
from contacts.identity import service as identity
from contacts.moving_in import service as contacts
from contacts.moving_in.schemas import UserIn
from cooee.errors import NotFound, Refused
from cooee.moving_in.import_run import ImportRun
from cooee.moving_in.source import Row
from cooee.moving_in.users import match_users, read_users
from cooee.moving_in.v1 import ORGANISATION

_REJECTED_ORGANISATION = "Its organisation was not imported."


class _Membership(NamedTuple):
    """A membership. `user` is the id of its user in the earlier system."""

    organisation: str
    user: str
    role: str


async def import_people(run: ImportRun) -> None:
    """Import organisations, users and memberships. Rows that exist here stay unchanged, because Clerk owns them."""
    names = await _read_organisations(run)
    users = await _read_users(run)
    memberships = await _read_memberships(run, users)
    if run.organisation:  # a user of other organisations only is not part of this import
        users = {row.user: users[row.user] for row in memberships}
    if run.is_dry_run:
        run.context.users = dict.fromkeys(users, 1)
        run.context.memberships = {(row.organisation, 1) for row in memberships}
        return
    async with run.stack.session("contacts") as session:
        for clerk_id in run.organisations:
            row = names[clerk_id]
            await contacts.import_organisation(
                session, clerk_id, clean_text(row["name"] or ""), clean_text(row["slug"] or "")
            )
        known = await contacts.import_users(session, list(users.values()))
        run.context.users = {old_id: known[user.clerk_id] for old_id, user in users.items()}
        found = [(row.organisation, run.context.users[row.user], row.role) for row in memberships]
        await contacts.import_memberships(session, found, run.context.now)
    run.context.memberships = {(organisation, user) for organisation, user, _ in found}


async def _read_organisations(run: ImportRun) -> dict[str, Row]:
    """Return the rows of the wanted organisations by Clerk id, and note their old ids."""
    names: dict[str, Row] = {}
    for row in await run.source.rows(run.system.table("organisation")):
        clerk_id = clean_text(row["clerk_org_id"] or "")
        if not clerk_id:
            run.problems.add("organisation", row["id"], "rejected", "It has no Clerk id.")
        elif run.organisation in (None, clerk_id):
            run.context.organisations[row["id"]], names[clerk_id] = clerk_id, row
    if run.organisation and not names:
        raise NotFound(f"the earlier system has no organisation {run.organisation}")
    await _reject_closed(run)
    return names


async def _read_users(run: ImportRun) -> dict[str, UserIn]:
    """Return the users by old id. Reject those without a Clerk id."""
    users: dict[str, UserIn] = {}
    for row in await run.source.rows(run.system.table("user")):
        user = _user(row)
        if user.clerk_id:
            users[str(row["id"])] = user
        else:
            run.problems.add("user", row["id"], "rejected", "It has no Clerk id.")
    return users


async def _read_memberships(run: ImportRun, users: Mapping[str, UserIn]) -> list[_Membership]:
    """Return the memberships of the wanted organisations. Reject those without a user or an organisation."""
    found = []
    for row in await run.source.rows(run.system.table("membership")):
        organisation, user = run.context.organisations.get(row["organisation_id"]), str(row["user_id"])
        if organisation is None and run.organisation:
            continue
        if organisation is None or user not in users:
            reason = _REJECTED_ORGANISATION if organisation is None else "Its user was not imported."
            run.problems.add("membership", row["id"], "rejected", reason)
        else:
            found.append(_Membership(organisation, user, row["role"] or "member"))
    return found


async def _reject_closed(run: ImportRun) -> None:
    """Leave the organisations out that are closed here. Raises Refused for the one that the operator named."""
    async with run.stack.session("contacts") as session:
        for old_id, organisation in list(run.context.organisations.items()):
            found = await identity.find_organisation(session, organisation)
            if found is None or found.is_active:
                continue
            if run.organisation:
                raise Refused(f"{organisation} is closed, so nothing can move in")
            run.problems.add("organisation", old_id, "rejected", "It is closed here.")
            del run.context.organisations[old_id]


def _user(row: Row) -> UserIn:
    texts = (clean_text(row[name] or "") for name in ("clerk_id", "first_name", "last_name", "email"))
    return UserIn(*texts)


async def find_people(run: ImportRun, users: Path) -> None:
    """Find the organisation that all rows go to, and the users that a file names.

    Raises NotFound, Refused for a closed organisation, and WrongUsage for lines of the file.
    """
    organisation, lines = run.organisation or "", read_users(users)
    async with run.stack.session("contacts") as session:
        found = await identity.find_organisation(session, organisation)
        if found is None:
            raise NotFound(f"there is no organisation {organisation}: see cooee organisations list")
        if not found.is_active:
            raise Refused(f"{organisation} is closed, so nothing can move in")
        known = await identity.find_members(session, organisation, {line.clerk_id for line in lines})
    run.context.organisations = {ORGANISATION: organisation}
    run.context.users = match_users(users, lines, await run.source.rows(run.system.table("user")), known)
    run.context.memberships = {(organisation, user.user_id) for user in known.values() if user.is_active}
