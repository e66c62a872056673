"""The pages that only show something. Each shows the document of a command."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cooee.command import Report
from cooee.errors import CommandError, WrongUsage
from cooee.page.actions import read
from cooee.page.context import context_of
from cooee.page.forms import Fields, read_query
from cooee.page.rendering import link_of, query

# Command lines of the overview. Each part is shown even when another one fails.
_OVERVIEW = {
    "health": ("health",),
    "pauses": ("pauses",),
    "stuck": ("stuck",),
    "dead_letters": ("dead-letters", "list", "--limit=5"),
    "inbound": ("inbound", "list", "--limit=1"),
    "actions": ("actions", "--limit=5"),
}


@dataclass(frozen=True)
class Part:
    """A part of the overview: the document of a command, or why there is none."""

    document: Mapping[str, Any]
    error: str = ""


def _given(fields: Fields, *names: str) -> list[str]:
    return [f"--{name}={fields.get(name)}" for name in names if fields.get(name)]


async def _read_part(request: Request, arguments: tuple[str, ...]) -> Part:
    try:
        return Part((await read(context_of(request).stack, *arguments)).document)
    except CommandError as error:
        return Part({}, str(error))


async def _read(request: Request, *arguments: str) -> Report:
    return await read(context_of(request).stack, *arguments)


async def show_overview(request: Request) -> Response:
    """Show health, stuck work, dead letters, unmatched inbound messages and the last actions."""
    parts = await asyncio.gather(*(_read_part(request, arguments) for arguments in _OVERVIEW.values()))
    return context_of(request).render(request, "overview.html", parts=dict(zip(_OVERVIEW, parts, strict=True)))


async def list_organisations(request: Request) -> Response:
    """List the organisations, 50 on a page."""
    fields = read_query(request)
    report = await _read(request, "organisations", "list", *_given(fields, "after"))
    return context_of(request).render(request, "organisations.html", **report.document)


async def open_organisation(request: Request) -> Response:
    """Go from the field for an id to the organisation's page."""
    given = read_query(request).get("id")
    return RedirectResponse(link_of("organisation", given) or "/organisations", 303)


async def show_organisation(request: Request) -> Response:
    """Show one organisation."""
    fields = read_query(request)
    organisation = request.path_params["organisation"]
    line = ["organisations", "show", *_given(fields, "page"), "--", organisation]
    report = await _read(request, *line)
    return context_of(request).render(request, "organisation.html", **report.document)


async def search_messages(request: Request) -> Response:
    """Show the search for messages, and what it finds."""
    fields = read_query(request)
    names = ("organisation", "provider-id", "before")
    found = None
    if fields.get("organisation") or fields.get("provider-id"):
        found = (await _read(request, "messages", *_given(fields, *names))).document
    return context_of(request).render(
        request,
        "messages.html",
        found=found,
        organisation=fields.get("organisation"),
        provider_id=fields.get("provider-id"),
    )


async def open_message(request: Request) -> Response:
    """Go from the field for an id to the message's page."""
    fields = read_query(request)
    number, kind = fields.get("id"), fields.get("kind") or "messages"
    if kind not in ("messages", "schedules") or not (number.isascii() and number.isdigit()):
        raise WrongUsage("id: enter the number of a message or of a schedule")
    return RedirectResponse(f"/{kind}/{number}", 303)


def history_line(request: Request) -> list[str]:
    """Return the command line of the history that a path names."""
    number = str(request.path_params["number"])
    return ["history", f"--schedule={number}"] if request.url.path.startswith("/schedules/") else ["history", number]


async def show_history(request: Request) -> Response:
    """Show the history of a message, with its phone masked and without its text."""
    report = await _read(request, *history_line(request))
    return context_of(request).render(request, "history.html", history=report.document, unmasked=False)


async def list_dead_letters(request: Request) -> Response:
    """List the newest dead letters."""
    report = await _read(request, "dead-letters", "list", *_given(read_query(request), "service", "topic"))
    return context_of(request).render(request, "dead_letters.html", **report.document)


def dead_letter_line(request: Request) -> list[str]:
    """Return the command line of the dead letter that a path names."""
    service, number = request.path_params["service"], request.path_params["number"]
    return ["dead-letters", "show", f"--service={service}", f"--id={number}"]


async def show_dead_letter(request: Request) -> Response:
    """Show one dead letter without its body."""
    report = await _read(request, *dead_letter_line(request))
    return context_of(request).render(
        request, "dead_letter.html", letter=report.document["dead_letters"][0], unmasked=False
    )


async def show_stuck(request: Request) -> Response:
    """Show what makes no progress, and why."""
    report = await _read(request, "stuck", *_given(read_query(request), "minutes"))
    return context_of(request).render(request, "stuck.html", **report.document)


async def list_inbound(request: Request) -> Response:
    """List inbound messages that match no organisation."""
    report = await _read(request, "inbound", "list")
    return context_of(request).render(request, "inbound.html", **report.document)


async def list_audit(request: Request) -> Response:
    """List what operators did, 50 on a page."""
    fields = read_query(request)
    report = await _read(request, "actions", *_given(fields, "organisation", "operator", "before"))
    following = report.document["next"]
    older = query("/audit", organisation=fields.get("organisation"), operator=fields.get("operator"), before=following)
    return context_of(request).render(
        request,
        "audit.html",
        actions=report.document["actions"],
        older=older if following else "",
        organisation=fields.get("organisation"),
        operator_name=fields.get("operator"),
    )
