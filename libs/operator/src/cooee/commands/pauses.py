"""The commands `pause`, `resume` and `pauses`: keep an organisation's or a provider's messages queued for a while."""

import argparse
from typing import Any

from contacts.identity.service import find_organisation
from cooee.command import Command, Group, Report
from cooee.commands.providers import read_providers
from cooee.errors import NotFound
from cooee.output import show_age, show_time, table
from cooee.stack import Stack
from delivery.models import PauseKind, PauseRow
from delivery.pauses import service

_WAITS = "its messages stay queued and expire at their deadline; requests in flight end"


async def pause_organisation(stack: Stack, options: argparse.Namespace) -> Report:
    """Pause an organisation: none of its messages goes to a provider until it is resumed.

    Its API still accepts messages, which stay queued and expire at their deadline. Requests in flight end normally.
    Receipts, inbound messages and webhooks are not affected. A second pause changes nothing.
    """
    async with stack.session("contacts") as session:
        if await find_organisation(session, options.organisation) is None:
            raise NotFound(f"there is no organisation {options.organisation}: see cooee organisations list")
    return await _pause(stack, PauseKind.ORGANISATION, options.organisation, options)


async def pause_provider(stack: Stack, options: argparse.Namespace) -> Report:
    """Pause a provider: no message goes to it, and nothing is resent to it, until it is resumed.

    Its messages stay queued. They do not go to the next provider of the chain: for that, change the chain. Requests in
    flight end normally. Receipts, inbound messages and webhooks are not affected. A second pause changes nothing.
    """
    configured = sorted(provider.name for provider in await read_providers(stack))
    if options.provider not in configured:
        raise NotFound(f"{options.provider} is not configured: choose one of {', '.join(configured)}")
    return await _pause(stack, PauseKind.PROVIDER, options.provider, options)


async def _pause(stack: Stack, kind: PauseKind, name: str, options: argparse.Namespace) -> Report:
    async with stack.session("delivery") as session:
        row, is_new = await service.pause(session, kind, name, operator=options.operator, reason=options.reason)
    said = f"is paused: {_WAITS}" if is_new else f"has been paused since {show_time(row.since)} {show_cause(row)}"
    return Report({**_describe(row), "is_new": is_new}, [f"{name} {said}"])


async def resume_organisation(stack: Stack, options: argparse.Namespace) -> Report:
    """Resume an organisation, so that its queued messages leave. Code 4 says that it is not paused."""
    return await _resume(stack, PauseKind.ORGANISATION, options.organisation)


async def resume_provider(stack: Stack, options: argparse.Namespace) -> Report:
    """Resume a provider, so that its queued messages leave. Code 4 says that it is not paused."""
    return await _resume(stack, PauseKind.PROVIDER, options.provider)


async def _resume(stack: Stack, kind: PauseKind, name: str) -> Report:
    async with stack.session("delivery") as session:
        row = await service.resume(session, kind, name)
    if row is None:
        raise NotFound(f"{kind} {name} is not paused: see cooee pauses")
    return Report(_describe(row), [f"{name} is resumed. It was paused {show_age(row.since)} {show_cause(row)}"])


async def list_pauses(stack: Stack, _: argparse.Namespace) -> Report:
    """List the paused organisations and providers."""
    async with stack.session("delivery") as session:
        rows = await service.list_pauses(session)
    cells = [(row.kind, row.name, show_time(row.since), row.operator, row.reason) for row in rows]
    lines = table(("kind", "name", "since", "operator", "reason"), cells) if cells else ["nothing is paused"]
    return Report({"pauses": [_describe(row) for row in rows]}, lines)


def show_cause(row: PauseRow) -> str:
    """Return who paused something, and why."""
    return f"by {row.operator}: {row.reason}"


def _describe(row: PauseRow) -> dict[str, Any]:
    return row._asdict()


def add_organisation(parser: argparse.ArgumentParser) -> None:
    """Add the organisation as the first argument."""
    parser.add_argument("organisation", help="the id of the organisation, org_…")


def _add_provider(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("provider", help="a name as in SMS_PROVIDERS")


PAUSE = Group(
    "pause",
    "keep the messages of an organisation or a provider queued",
    (
        Command("organisation", "pause an organisation", pause_organisation, add_organisation, changes=True),
        Command("provider", "pause a provider", pause_provider, _add_provider, changes=True),
    ),
)
RESUME = Group(
    "resume",
    "end a pause",
    (
        Command("organisation", "resume an organisation", resume_organisation, add_organisation, changes=True),
        Command("provider", "resume a provider", resume_provider, _add_provider, changes=True),
    ),
)
COMMAND = Command("pauses", "list what is paused, since when and why", list_pauses)
