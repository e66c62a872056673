"""`python -m tools.operator`: what an operator does by hand. docs/operators.md has an example of each."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence

from tools.operator.history import message
from tools.operator.letters import SERVICES, list_letters, replay_letters, resume, show_letters
from tools.operator.providers import health, send_test
from tools.operator.republish import republish
from tools.operator.senders import assign_sender, list_senders, remove_sender
from tools.operator.stack import OperatorError, Stack
from tools.operator.stuck import stuck

Command = Callable[[Stack, argparse.Namespace], Awaitable[int]]


async def run(arguments: Sequence[str] | None = None, stack: Stack | None = None) -> int:
    """Runs a command; returns its exit code: 0 good, 1 something is wrong, 2 it could not be done."""
    options = _parser().parse_args(arguments)
    command: Command = options.run
    try:
        return await command(stack or Stack.from_environment(), options)
    except OperatorError as error:
        print(f"operator: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` as a rule, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tools.operator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Command, told: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=told, description=command.__doc__)
        made.set_defaults(run=command)
        return made

    add("health", health, "asks every provider whether our account works")
    test = add("send-test", send_test, "a message straight to a provider")
    test.add_argument("--provider", required=True, help="a name as in SMS_PROVIDERS")
    test.add_argument("--to", required=True, help="04…")
    test.add_argument("--text", default="A test message.")
    test.add_argument("--media-url", help="makes it an MMS")
    test.add_argument("--yes", action="store_true", help="really send it")
    _add_letters(commands)
    _add_senders(commands)
    look = add("stuck", stuck, "what does not go on, and why")
    look.add_argument("--minutes", type=float, default=5.0, help="how long something may take (5)")
    again = add("resume", resume, "lets a service's dead letters pass, so that its consumers go on")
    again.add_argument("service", choices=SERVICES)
    again.add_argument("--topic")
    one = add("message", message, "the whole history of one message")
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("id", type=int, nargs="?", help="delivery's id of the message")
    which.add_argument("--schedule", type=int, help="the schedule's id, as the API has it")
    one.add_argument("--ask", action="store_true", help="ask the provider what it says of it today")
    one.add_argument("--reveal", action="store_true", help="show phone and text")
    states = add("republish", republish, "state events since a time once more")
    states.add_argument("--since", required=True, help="a time, or 90m, 6h, 2d ago")
    return parser


def _add_letters(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    letters = commands.add_parser("dead-letters", help="records that a consumer could not read")
    what = letters.add_subparsers(required=True, metavar="what")
    kinds: tuple[tuple[str, Command, str], ...] = (
        ("list", list_letters, "the newest"),
        ("show", show_letters, "everything about some"),
        ("replay", replay_letters, "publish some again"),
    )
    for name, command, told in kinds:
        made = what.add_parser(name, help=told, description=command.__doc__)
        made.set_defaults(run=command)
        made.add_argument("--service", choices=SERVICES, required=name != "list")
        made.add_argument("--topic")
        made.add_argument("--id", type=int, action="append")
        made.add_argument("--all", action="store_true")
        made.add_argument("--limit", type=int, default=50, help="of a list (50)")
        made.add_argument("--reveal", action="store_true", help="show what is in them")


def _add_senders(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    senders = commands.add_parser("senders", help="which organisation may send from which number or name")
    what = senders.add_subparsers(required=True, metavar="what")
    kinds: tuple[tuple[str, Command, str], ...] = (
        ("list", list_senders, "all that are assigned"),
        ("assign", assign_sender, "gives one to an organisation"),
        ("remove", remove_sender, "takes one from its organisation"),
    )
    for name, command, told in kinds:
        made = what.add_parser(name, help=told, description=command.__doc__)
        made.set_defaults(run=command)
        if name != "list":
            made.add_argument("--sender", required=True, help="04…, or a name")
        if name == "assign":
            made.add_argument("--organisation", required=True, help="org_…")


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
