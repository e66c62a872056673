"""The command line `cooee`. docs/operators.md describes each command.

A command is added in two steps: a module in `commands`, and its `COMMAND` in the list below.
"""

import argparse
import asyncio
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import structlog

from cooee.arguments import add_audit
from cooee.audit import run_audited
from cooee.command import Command, Group, Report
from cooee.commands import (
    actions,
    cancel,
    dead_letters,
    erase,
    health,
    history,
    import_v1,
    import_v2,
    inbound,
    messages,
    organisations,
    page,
    pauses,
    providers,
    republish,
    retention,
    retry,
    sender_ids,
    stuck,
)
from cooee.errors import MEANINGS, CommandError, ExitCode, WrongUsage
from cooee.output import printable, to_json
from cooee.stack import Stack

COMMANDS: tuple[Command | Group, ...] = (
    health.COMMAND,
    stuck.COMMAND,
    history.COMMAND,
    dead_letters.COMMAND,
    sender_ids.COMMAND,
    inbound.COMMAND,
    providers.COMMAND,
    republish.COMMAND,
    retention.COMMAND,
    erase.COMMAND,
    import_v1.COMMAND,
    import_v2.COMMAND,
    pauses.PAUSE,
    pauses.RESUME,
    pauses.COMMAND,
    cancel.COMMAND,
    organisations.COMMAND,
    actions.COMMAND,
    messages.COMMAND,
    retry.COMMAND,
    page.COMMAND,
)
_JSON, _DEBUG = "--json", "--debug"


def main() -> NoReturn:
    """Run the command of the command line and exit with its code."""
    # Standard output is only for the result, and JSON is UTF-8 whatever the terminal uses.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    arguments = sys.argv[1:]
    try:
        code = asyncio.run(run(arguments))
    except KeyboardInterrupt:
        code = _fail(ExitCode.INTERRUPTED, "interrupted. The command can be started again", _JSON in arguments)
    sys.exit(code)


async def run(arguments: Sequence[str], stack: Stack | None = None) -> int:
    """Run a command, print its result or its error, and return its exit code."""
    as_json = _JSON in arguments
    try:
        options = parse(arguments)
        report = await _run(options.command, stack or Stack.from_environment(), options)
        text = to_json(report.document) if as_json else "\n".join(map(printable, report.lines))
    except CommandError as error:
        if _DEBUG in arguments and error.code is ExitCode.INTERNAL:
            traceback.print_exc()
        return _fail(error.code, str(error), as_json)
    except Exception as error:  # Python would exit with 1, which means something else here
        if _DEBUG in arguments:
            traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        return _fail(ExitCode.INTERNAL, f"an error of cooee itself: {reason} (--debug prints where)", as_json)
    _print(text)
    return report.code


async def _run(command: Command, stack: Stack, options: argparse.Namespace) -> Report:
    if command.changes:
        return await run_audited(stack, command, options)
    return await command.run(stack, options)


def _fail(code: ExitCode, message: str, as_json: bool) -> int:
    """Print an error as a sentence to standard error and, for --json, as the document of standard output, too."""
    print(f"cooee: {printable(message)}", file=sys.stderr)
    if as_json:
        _print(to_json({"error": {"kind": code.name.lower(), "message": message, "exit_code": code}}))
    return code


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # a reader such as `head` has closed the pipe; the exit code stays that of the command
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongUsage(f"{message}. See {self.prog} --help")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line, with its `command` and, as `action`, its full name. Raises WrongUsage."""
    try:
        for argument in arguments:
            argument.encode()
    except UnicodeEncodeError:
        raise WrongUsage("the command line is not valid UTF-8") from None
    if any("\0" in argument for argument in arguments):
        raise WrongUsage("the command line has a NUL character")
    return _parser().parse_args(arguments)


def _parser() -> _Parser:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())
    common = _common()
    parser = _Parser(
        "cooee",
        description="Show how the system is doing, find what is stuck and why, and repair it.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for one in COMMANDS:
        if isinstance(one, Command):
            _add(commands, one, common, one.name)
            continue
        group = commands.add_parser(one.name, help=one.summary, parents=[common], allow_abbrev=False)
        verbs = group.add_subparsers(required=True, metavar="action")
        for command in one.commands:
            _add(verbs, command, common, f"{one.name} {command.name}")
    return parser


def _common() -> _Parser:
    """Return the options that stand before or after any command. A suppressed default keeps the one that was given."""
    common = _Parser(add_help=False)
    common.add_argument(
        _JSON, action="store_true", default=argparse.SUPPRESS, help="print one JSON document to standard output"
    )
    common.add_argument(
        _DEBUG, action="store_true", default=argparse.SUPPRESS, help="print where an error of cooee itself happened"
    )
    return common


def _add(parsers: "argparse._SubParsersAction[_Parser]", command: Command, common: _Parser, action: str) -> None:
    first, _, rest = (command.run.__doc__ or "").partition("\n\n")
    description = f"{first} {command.effect} {rest}"
    parser = parsers.add_parser(
        command.name, help=command.summary, description=description, parents=[common], allow_abbrev=False
    )
    command.add_arguments(parser)
    if command.changes:
        add_audit(parser)
    parser.set_defaults(command=command, action=action)
