"""Run a command with its audit: a row before it begins, and one with its outcome. docs/operators.md describes it."""

import argparse
import asyncio
import re
from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from contacts.operator_actions import service
from contacts.operator_actions.rules import ActionOutcome, InvalidActionText, mask_phones
from cooee.command import Command, Report
from cooee.errors import CommandError, ExitCode, WrongUsage
from cooee.output import mask
from cooee.stack import Stack
from delivery.sender_ids.rules import canonical_sender_id

log = structlog.get_logger()

_MAX_CHARS = 200
_MAX_ITEMS = 50
_PHONES = {"phone", "to"}
_CONTENT = {"text", "media_url"}
# Names that begin with a letter, such as the id of an organisation, may have many digits.
_NAMES = {"organisation", "provider", "service", "topic"}
_NAME = re.compile(r"[A-Za-z][\w.-]*")
_ADDRESSES = {"source"}
_HOST, _PATH = re.compile(r"[\w.:-]+"), re.compile(r"/[\w.-]*")
# The action, the reason and the operator have columns of their own. The others say what runs, and how it is shown.
_LEFT_OUT = {"command", "action", "reason", "operator", "json", "debug"}
_OUTCOMES = {
    ExitCode.OK: ActionOutcome.DONE,
    ExitCode.FOUND: ActionOutcome.DONE,
    ExitCode.USAGE: ActionOutcome.REFUSED,
    ExitCode.NOT_FOUND: ActionOutcome.REFUSED,
    ExitCode.REFUSED: ActionOutcome.REFUSED,
}


async def run_audited(stack: Stack, command: Command, options: argparse.Namespace) -> Report:
    """Run a command between the two rows of its audit, and return its report.

    `options` come from `cooee.main.parse`. A command that only reads can be audited, too: its options then need
    `reason` and `operator`. The first row is committed before the command begins, so nothing happens without its row.
    Raises what the command raises, and WrongUsage for an invalid reason or operator.
    """
    action_id = await _begin(stack, options)
    code = ExitCode.INTERNAL
    try:
        report = await command.run(stack, options)
        code = report.code
        return report
    except CommandError as error:
        code = error.code
        raise
    except asyncio.CancelledError:
        code = ExitCode.INTERRUPTED
        raise
    finally:
        await _end(stack, action_id, code)


async def _begin(stack: Stack, options: argparse.Namespace) -> UUID:
    organisation = getattr(options, "organisation", None)
    async with stack.session("contacts") as session:
        try:
            return await service.begin_action(
                session,
                options.action,
                operator=options.operator,
                reason=options.reason,
                arguments=describe_arguments(vars(options)),
                organisation_id=_describe("organisation", organisation) if organisation else None,
            )
        except InvalidActionText as error:
            raise WrongUsage(f"--reason and --operator: {error}") from None


async def _end(stack: Stack, action_id: UUID, code: ExitCode) -> None:
    """Record the end. When that fails, the first row alone stays, and the result of the command counts."""
    outcome = _OUTCOMES.get(code, ActionOutcome.FAILED)
    try:
        async with stack.session("contacts") as session:
            await service.end_action(session, action_id, outcome, code)
    except CommandError as error:
        log.error("end of action not recorded", action_id=str(action_id), error=str(error))


def describe_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command as they are recorded: without phones, texts and passwords, and bounded."""
    return {
        name: _describe(name, value)
        for name, value in sorted(given.items())
        if name not in _LEFT_OUT and value is not None and value is not False
    }


def _describe(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        more = len(value) - _MAX_ITEMS
        return [_describe(name, one) for one in value[:_MAX_ITEMS]] + ([f"and {more} more"] if more > 0 else [])
    if isinstance(value, date):
        return value.isoformat()
    if name in _CONTENT:
        return f"({len(str(value))} characters)"
    if name in _PHONES:
        return mask(str(value), show=False)
    return _show(name, str(value))[:_MAX_CHARS]


def _show(name: str, value: str) -> str:
    # A sender ID is ours, also when it is a number.
    if (name == "sender" and canonical_sender_id(value)) or (name in _NAMES and _NAME.fullmatch(value)):
        return value
    if name in _ADDRESSES:
        return _without_password(value)
    return "(hidden)" if "password" in value.lower() else mask_phones(value)


def _without_password(value: str) -> str:
    """Return the host and the database of an address of PostgreSQL. What cannot be read for certain is hidden."""
    try:
        address = urlsplit(value)
        if address.scheme in ("postgres", "postgresql") and _HOST.fullmatch(address.hostname or ""):
            return (
                f"{address.scheme}://{address.hostname}{address.path}" if _PATH.fullmatch(address.path) else "(hidden)"
            )
    except ValueError:
        pass
    return "(hidden)"
