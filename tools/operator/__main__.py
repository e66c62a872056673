"""The operator's commands: `python -m tools.operator`. docs/operators.md describes each of them."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence

from tools.embedded.environment import STORES
from tools.operator.dead_letters import acknowledge, list_dead_letters, replay_dead_letters, show_dead_letters
from tools.operator.history import message
from tools.operator.inbound import list_unmatched, match
from tools.operator.providers import health, send_test
from tools.operator.republish import republish
from tools.operator.sender_ids import assign_sender_id, list_sender_ids, remove_sender_id
from tools.operator.stack import OperatorError, Stack
from tools.operator.stuck import stuck

Command = Callable[[Stack, argparse.Namespace], Awaitable[int]]
Parsers = argparse._SubParsersAction  # argparse has no public name for it


async def run(arguments: Sequence[str] | None = None, stack: Stack | None = None) -> int:
    """Run a command and return its exit code: 0 all is well, 1 something is wrong, 2 it could not be carried out."""
    options = _parser().parse_args(arguments)
    command: Command = options.run
    try:
        return await command(stack or Stack.from_environment(), options)
    except OperatorError as error:
        print(f"operator: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # a reader such as `head` has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tools.operator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add(commands, "health", health, "check our account at every provider")
    test = _add(commands, "send-test", send_test, "submit one message to a provider directly")
    test.add_argument("--provider", required=True, help="a name as in SMS_PROVIDERS")
    test.add_argument("--to", required=True, help="the recipient, 04…")
    test.add_argument("--text", default="A test message.", help="the text of the message")
    test.add_argument("--media-url", help="the address of a picture, which makes the message an MMS")
    test.add_argument("--yes", action="store_true", help="send the message; without it nothing is sent")
    _add_dead_letters(commands)
    _add_sender_ids(commands)
    _add_inbound(commands)
    blocked = _add(commands, "stuck", stuck, "list what makes no progress, and why")
    blocked.add_argument("--minutes", type=float, default=5.0, help="list what has made no progress for this time (5)")
    history = _add(commands, "message", message, "show the whole history of one message")
    which = history.add_mutually_exclusive_group(required=True)
    which.add_argument("id", type=int, nargs="?", help="delivery's id of the message")
    which.add_argument("--schedule", type=int, help="the id of the schedule in the API")
    history.add_argument("--ask", action="store_true", help="ask the provider for the present status, too")
    history.add_argument("--reveal", action="store_true", help="show phones and texts")
    states = _add(commands, "republish", republish, "publish the states that changed since a time again")
    states.add_argument("--since", required=True, help="a time, or 90m, 6h, 2d for a time ago")
    return parser


def _add(
    commands: "Parsers[argparse.ArgumentParser]",
    name: str,
    command: Command,
    summary: str,
    *,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, aliases=aliases, help=summary, description=command.__doc__)
    parser.set_defaults(run=command)
    return parser


def _add_dead_letters(commands: "Parsers[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("dead-letters", help="list, show or replay records that a consumer could not read")
    actions = group.add_subparsers(required=True, metavar="action")
    for name, command, summary in (
        ("list", list_dead_letters, "list the newest"),
        ("show", show_dead_letters, "show some in full"),
        ("replay", replay_dead_letters, "publish some again"),
    ):
        action = _add(actions, name, command, summary)
        action.add_argument("--service", choices=STORES, required=name != "list")
        action.add_argument("--topic")
        action.add_argument("--id", type=int, action="append", help="the id of one; repeat the option for more")
        action.add_argument("--all", action="store_true", help="choose all of the service")
        action.add_argument("--limit", type=int, default=50, help="the number of listed ones (50)")
        action.add_argument("--reveal", action="store_true", help="show the bodies, with phones and texts")
    summary = "acknowledge dead letters, so that paused consumers continue"
    paused = _add(commands, "acknowledge", acknowledge, summary, aliases=("resume",))
    paused.add_argument("service", choices=STORES)
    paused.add_argument("--topic")


def _add_sender_ids(commands: "Parsers[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("senders", help="say which organisation may send from which number or name")
    actions = group.add_subparsers(required=True, metavar="action")
    for name, command, summary in (
        ("list", list_sender_ids, "list the assigned ones"),
        ("assign", assign_sender_id, "assign one to an organisation"),
        ("remove", remove_sender_id, "remove one from its organisation"),
    ):
        action = _add(actions, name, command, summary)
        if name != "list":
            action.add_argument("--sender", required=True, help="the number, 04…, or the name")
        if name == "assign":
            action.add_argument("--organisation", required=True, help="the id of the organisation, org_…")


def _add_inbound(commands: "Parsers[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("inbound", help="list messages from phones that match no organisation, or match them")
    actions = group.add_subparsers(required=True, metavar="action")
    for name, command, summary in (
        ("list", list_unmatched, "list the newest"),
        ("match", match, "find their organisations again, after sender IDs were assigned"),
    ):
        action = _add(actions, name, command, summary)
        action.add_argument("--id", type=int, action="append", help="the id of one; repeat the option for more")
        action.add_argument("--sender", help="the number or name that they were sent to")
        action.add_argument("--phone", help="the phone that sent them")
        action.add_argument("--stop", action="store_true", help="only those that say STOP")
        if name == "list":
            action.add_argument("--limit", type=int, default=50, help="the number of listed ones (50)")
            action.add_argument("--reveal", action="store_true", help="show phones and texts")


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
