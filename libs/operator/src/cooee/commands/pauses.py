"""The commands `pause`, `resume` and `pauses`: stop claiming the messages of an organisation or a provider."""

import argparse
from typing import Any

from cooee.arguments import add_organisation
from cooee.command import Command, Group, Report
from cooee.commands.organisation import require_organisation
from cooee.commands.providers import read_providers
from cooee.errors import NotFound
from cooee.output import show_age, show_time, table
from cooee.stack import Stack
from delivery.models import PauseKind, PauseRow
from delivery.pauses import service

_COMMON_EFFECT = (
    "Requests in flight end normally. Receipts, inbound messages and webhooks are not affected. A second pause changes"
    " nothing."
)
PAUSE_ORGANISATION_EFFECT = (
    "None of its messages goes to a provider until it is resumed. Its API still accepts messages, which stay queued and"
    f" expire at their deadline. {_COMMON_EFFECT}"
)
PAUSE_PROVIDER_EFFECT = (
    "No message goes to it, and nothing is resent to it, until it is resumed. Its messages stay queued, and expire at"
    " their deadline. They do not go to the next provider of the chain: for that, change the chain."
    f" {_COMMON_EFFECT}"
)
RESUME_EFFECT = "Its queued messages are sent."
PROVIDER_HINT = "a name in SMS_PROVIDERS or MMS_PROVIDERS"
_WAITS = "its messages stay queued and expire at their deadline; requests in flight end"


async def pause_organisation(stack: Stack, options: argparse.Namespace) -> Report:
    """Pause an organisation."""
    async with stack.session("contacts") as session:
        await require_organisation(session, options.organisation)
    return await _pause(stack, PauseKind.ORGANISATION, options.organisation, options)


async def pause_provider(stack: Stack, options: argparse.Namespace) -> Report:
    """Pause a provider."""
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
    """Resume an organisation.

    Code 4 says that it is not paused.
    """
    return await _resume(stack, PauseKind.ORGANISATION, options.organisation)


async def resume_provider(stack: Stack, options: argparse.Namespace) -> Report:
    """Resume a provider.

    Code 4 says that it is not paused.
    """
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


def _add_provider(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("provider", help=PROVIDER_HINT)


PAUSE = Group(
    "pause",
    "stop claiming the messages of an organisation or a provider",
    (
        Command(
            "organisation",
            "pause an organisation",
            pause_organisation,
            add_organisation,
            changes=True,
            effect=PAUSE_ORGANISATION_EFFECT,
        ),
        Command(
            "provider", "pause a provider", pause_provider, _add_provider, changes=True, effect=PAUSE_PROVIDER_EFFECT
        ),
    ),
)
RESUME = Group(
    "resume",
    "end a pause",
    (
        Command(
            "organisation",
            "resume an organisation",
            resume_organisation,
            add_organisation,
            changes=True,
            effect=RESUME_EFFECT,
        ),
        Command("provider", "resume a provider", resume_provider, _add_provider, changes=True, effect=RESUME_EFFECT),
    ),
)
COMMAND = Command("pauses", "list what is paused, since when and why", list_pauses)
