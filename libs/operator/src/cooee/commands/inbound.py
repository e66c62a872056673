"""The commands `inbound`: messages from phones that match no organisation."""

import argparse

from common.phones import show_phone
from cooee.arguments import add_limit, add_privacy, read_positive
from cooee.command import Command, Group, Report
from cooee.commands.providers import read_providers
from cooee.errors import ExitCode, WrongUsage
from cooee.output import mask, quantity, show_time, table
from cooee.stack import Stack
from delivery.inbound import service
from delivery.inbound.rules import InboundPolicy, UnmatchedChoice, UnmatchedCount, canonical_number

_BATCH = 500


async def list_unmatched(stack: Stack, options: argparse.Namespace) -> Report:
    """List the newest inbound messages that match no organisation. The exit code is 1 when there are any.

    A message whose keyword is STOP is from a person who wants no more messages.
    """
    choice = _choice(options)
    async with stack.session("delivery") as session:
        count = await service.count_unmatched(session, choice)
        rows = await service.list_unmatched(session, choice, options.limit)
    found = [
        {
            "id": row.id,
            "received_at": row.received_at,
            "provider": row.provider,
            "phone": mask(row.phone, options.show_phones),
            "sender_id": show_phone(row.to_number) or None,
            "keyword": row.keyword,
            "text": row.text if options.show_texts else None,
        }
        for row in rows
    ]
    columns = ["id", "received", "provider", "phone", "to", "keyword"] + ["text"] * options.show_texts
    cells = [
        [str(row.id), show_time(row.received_at), row.provider, one["phone"], one["sender_id"], row.keyword]
        + [repr(row.text)] * options.show_texts
        for one, row in zip(found, rows, strict=True)
    ]
    lines = [*(table(columns, cells) if cells else []), show_count(count)]
    return Report({"unmatched": count_document(count), "inbound_messages": found}, lines, _code(count))


async def match(stack: Stack, options: argparse.Namespace) -> Report:
    """Find the organisations of inbound messages that matched none, and act on their keywords.

    Assign their sender IDs before. A STOP takes effect from the time at which it was received. No auto-reply is sent.
    The exit code is 1 when some still match none.
    """
    choice, policy = _choice(options), await _policy(stack)
    matched, after = 0, 0
    while True:
        async with stack.session("delivery") as session:
            found, last = await service.match_unmatched(session, policy, choice, after=after, batch=_BATCH)
        matched += found
        if last is None:
            break
        after = last
    async with stack.session("delivery") as session:
        left = await service.count_unmatched(session, choice)
    have = "has" if matched == 1 else "have"
    lines = [f"{quantity(matched, 'inbound message')} {have} an organisation now", show_count(left)]
    return Report({"matched": matched, "unmatched": count_document(left)}, lines, _code(left))


def show_count(count: UnmatchedCount, which: str = "") -> str:
    """Return how many inbound messages match no organisation. `which` says which of them are meant."""
    match_ = "matches" if count.messages == 1 else "match"
    return f"{quantity(count.messages, 'inbound message')} {which}{match_} no organisation (STOP: {count.opt_outs:,})"


def count_document(count: UnmatchedCount) -> dict[str, int]:
    """Return the same for --json."""
    return {"messages": count.messages, "opt_outs": count.opt_outs}


def _code(count: UnmatchedCount) -> ExitCode:
    return ExitCode.FOUND if count.messages else ExitCode.OK


async def _policy(stack: Stack) -> InboundPolicy:
    """Return the policy of the configured providers. Raises WrongSettings when a setting is invalid."""
    return InboundPolicy.of(await read_providers(stack))


def _choice(options: argparse.Namespace) -> UnmatchedChoice:
    # A message may come from any phone, also from abroad or from a short number, so only this can be checked.
    if options.phone is not None and not any(map(str.isdigit, options.phone)):
        raise WrongUsage(f"--phone: {options.phone!r} is not a phone: enter 04…, or the number as it is listed")
    return UnmatchedChoice(
        ids=options.id or None,
        to=canonical_number(options.sender) if options.sender else None,
        phone=canonical_number(options.phone) if options.phone else None,
        only_stop=options.stop,
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", type=read_positive, action="append", help="the id of one; repeat the option for more")
    parser.add_argument("--sender", help="the number or name that they were sent to")
    parser.add_argument("--phone", help="the phone that sent them")
    parser.add_argument("--stop", action="store_true", help="only those that say STOP")


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_choice(parser)
    add_limit(parser)
    add_privacy(parser)


COMMAND = Group(
    "inbound",
    "list messages from phones that match no organisation, or match them",
    (
        Command("list", "list the newest", list_unmatched, _add_list),
        Command("match", "find their organisations, after sender IDs were assigned", match, _add_choice, changes=True),
    ),
)
