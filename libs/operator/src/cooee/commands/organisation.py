"""The command `organisations show`: what the services have of one organisation.

Each service reads it in a session that sees only this organisation.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page
from common.phones import show_phone
from contacts.identity import service as identity
from contacts.models import ListedOrganisation
from cooee.arguments import add_organisation, read_limit
from cooee.command import Command, Report
from cooee.errors import NotFound, WrongUsage
from cooee.output import quantity, show_time, table
from cooee.stack import Stack
from delivery.configs import service as configs
from delivery.errors import OrganisationClosed
from delivery.limits import service as limits
from delivery.models import PauseKind
from delivery.opt_outs import service as opt_outs
from delivery.pauses import service as pauses
from delivery.sender_ids import service as sender_ids
from scheduling.batches import service as batches

_MONTHS = 12


async def show_organisation(stack: Stack, options: argparse.Namespace) -> Report:
    """Show an organisation: users, limits and usage, configs, sender IDs, opt-outs and batches.

    An organisation exists when one of its users has used the API, when Clerk has sent an event about it, or after an
    import from an earlier system.
    """
    organisation_id, page = options.organisation.strip(), Page(options.page)
    if not organisation_id or "\0" in organisation_id:
        raise WrongUsage("enter the id of the organisation, such as org_2pQ…")
    document = {
        "page": page.number,
        **await _read_contacts(stack, organisation_id, page),
        **await _read_delivery(stack, organisation_id),
        **await _read_scheduling(stack, organisation_id, page),
    }
    return Report(document, list(_lines(document)))


async def require_organisation(session: AsyncSession, organisation_id: str) -> ListedOrganisation:
    """Return an organisation, also a closed one. Raises NotFound."""
    found = await identity.find_organisation(session, organisation_id)
    if found is None:
        raise NotFound(f"there is no organisation {organisation_id}: see cooee organisations list")
    return found


async def _read_contacts(stack: Stack, organisation_id: str, page: Page) -> dict[str, Any]:
    async with stack.session("contacts") as session:
        found = await require_organisation(session, organisation_id)
    async with stack.session("contacts", organisation_id) as session:
        users, total = await identity.list_users(session, page)
    names = ("id", "clerk_id", "first_name", "last_name", "email", "role")
    return {
        "organisation": {
            "organisation_id": organisation_id,
            "name": found.name,
            "slug": found.slug,
            "state": "active" if found.is_active else "closed",
            "created_at": found.created_at,
            "closed_at": found.closed_at,
        },
        "users": [{name: getattr(user, name) for name in names} for user in users],
        "user_count": total,
    }


async def _read_delivery(stack: Stack, organisation_id: str) -> dict[str, Any]:
    async with stack.session("delivery", organisation_id) as session:
        allowed, zone = await limits.get_limits(session, organisation_id)
        usage = await limits.list_usage(session, _MONTHS)
        try:
            configured, _ = await configs.page_configs(session, Page())
        except OrganisationClosed:
            configured = []
        assigned = await sender_ids.list_all_tenants(session)
        number = await opt_outs.count_opted_out(session)
    async with stack.session("delivery") as session:
        paused = [row for row in await pauses.list_pauses(session) if row.name == organisation_id]
    pause = next((row for row in paused if row.kind is PauseKind.ORGANISATION), None)
    return {
        "pause": pause and {"since": pause.since, "operator": pause.operator, "reason": pause.reason},
        "limits": allowed,
        "timezone": zone,
        "usage": [{"month": f"{row.period:%Y-%m}", "format": row.format, "used": row.usage} for row in usage],
        "configs": [{"name": row.name, "value": row.value} for row in configured],
        "sender_ids": [{"sender_id": show_phone(row.sender_id), "assigned_at": row.created_at} for row in assigned],
        "opted_out_phones": number,
    }


async def _read_scheduling(stack: Stack, organisation_id: str, page: Page) -> dict[str, Any]:
    names = ("id", "status", "name", "group_name", "scheduled_time", "format", "message_count")
    async with stack.session("scheduling", organisation_id) as session:
        rows, total = await batches.page_newest(session, page)
    return {"batches": [{name: getattr(row, name) for name in names} for row in rows], "batch_count": total}


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    organisation = document["organisation"]
    yield f"{organisation['organisation_id']}: {organisation['name'] or '-'}, {organisation['state']}"
    if pause := document["pause"]:
        yield f"paused since {show_time(pause['since'])} by {pause['operator']}: {pause['reason']}"
    allowed = ", ".join(f"{name} {number:,}" for name, number in document["limits"].items())
    yield f"monthly limits: {allowed or 'none'}; time zone {document['timezone']}"
    yield f"{quantity(document['opted_out_phones'], 'phone')} opted out by a reply or at a provider"
    yield from _table("users", document["users"], ("id", "clerk_id", "first_name", "last_name", "email", "role"))
    yield from _table("usage", document["usage"], ("month", "format", "used"))
    yield from _table("configs", document["configs"], ("name", "value"))
    yield from _table("sender IDs", document["sender_ids"], ("sender_id", "assigned_at"))
    yield from _table("batches", document["batches"], ("id", "status", "name", "scheduled_time", "message_count"))


def _table(title: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    if rows:
        yield ""
        yield f"{title}:"
        shown = ([str(row[name]) if name == "id" else _show(row[name]) for name in names] for row in rows)
        yield from table([name.replace("_", " ") for name in names], shown)


def _show(value: Any) -> Any:
    return show_time(value) if hasattr(value, "astimezone") else value


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_organisation(parser)
    parser.add_argument("--page", type=read_limit, default=1, help="the page of users and batches, 50 on each (1)")


COMMAND = Command("show", "show what one has", show_organisation, _add_arguments)
