"""The command `inbound`: messages from phones that match no organisation."""

import argparse

from common.phones import show_phone
from delivery.inbound import service
from delivery.inbound.rules import InboundPolicy, UnmatchedChoice, UnmatchedCount, canonical_number
from tools.operator.providers import read_providers
from tools.operator.stack import Stack, mask, show_time

_BATCH = 500


async def list_unmatched(stack: Stack, options: argparse.Namespace) -> int:
    """List the newest inbound messages that match no organisation. 1 when there are any.

    A message whose keyword is STOP is from a person who wants no more messages. Phones and texts only with --reveal.
    """
    choice = _choice(options)
    async with stack.session("delivery") as session:
        count = await service.count_unmatched(session, choice)
        rows = await service.list_unmatched(session, choice, options.limit)
    for row in rows:
        content = f": {row.text!r}" if options.reveal else f" ({row.keyword or 'no keyword'})"
        phone, to = mask(row.phone, options.reveal), show_phone(row.to_number) or "-"
        print(f"{row.id}  {show_time(row.received_at)}  {row.provider}  {phone} to {to}{content}")
    print(show_count(count))
    return 1 if count.messages else 0


async def match(stack: Stack, options: argparse.Namespace) -> int:
    """Find the organisations of inbound messages that matched none, and act on their keywords. 1 when some match none.

    Assign their sender IDs before. A STOP takes effect from the time at which it was received. No auto-reply is sent.
    """
    choice, policy = _choice(options), await _policy(stack)
    matched, after = 0, 0
    while True:
        async with stack.session("delivery") as session:
            found, last = await service.match_unmatched(session, policy, choice, after, _BATCH)
        matched += found
        if last is None:
            break
        after = last
    async with stack.session("delivery") as session:
        left = await service.count_unmatched(session, choice)
    print(f"{matched} inbound messages have an organisation now")
    print(show_count(left))
    return 1 if left.messages else 0


def show_count(count: UnmatchedCount, which: str = "") -> str:
    """Return how many inbound messages match no organisation. `which` says which of them are meant."""
    return f"{count.messages} inbound messages {which}match no organisation, {count.opt_outs} of them say STOP"


async def _policy(stack: Stack) -> InboundPolicy:
    """Return the policy of the configured providers. Raises OperatorError when a setting is invalid."""
    return InboundPolicy.of(await read_providers(stack))


def _choice(options: argparse.Namespace) -> UnmatchedChoice:
    return UnmatchedChoice(
        ids=options.id or None,
        to=canonical_number(options.sender) if options.sender else None,
        phone=canonical_number(options.phone) if options.phone else None,
        only_stop=options.stop,
    )
