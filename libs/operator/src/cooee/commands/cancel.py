"""The commands `cancel`: cancel an organisation's batches for it."""

import argparse
from collections.abc import Sequence

from common import errors
from common.caller import system
from cooee.arguments import add_organisation, read_positive, read_since
from cooee.command import Command, Group, Report
from cooee.errors import NotFound, Refused
from cooee.output import quantity, show_time
from cooee.stack import Stack
from scheduling.batches import service
from scheduling.errors import ScheduleNotPending

_PAGE = 50
_OPEN = """
    SELECT id FROM schedules
    WHERE organisation_id = :organisation AND kind = 'batch' AND status IN ('pending', 'processing')
      AND created_at >= :since AND id > :after
    ORDER BY id LIMIT :limit
"""


async def cancel_batch(stack: Stack, options: argparse.Namespace) -> Report:
    """Cancel the pending messages of a batch, even when part of it was dispatched.

    Messages that were dispatched are not stopped: pause the organisation first to keep those that are queued. Code 5
    says that nothing of the batch is pending.
    """
    organisation, batch_id = options.organisation, options.batch_id
    try:
        async with stack.session("scheduling", organisation) as session:
            await service.cancel_batch(session, system(organisation), batch_id)
            batch = await service.get_batch(session, batch_id)
            counts = await service.count_messages(session, batch)
    except errors.NotFound:
        raise NotFound(f"{organisation} has no batch {batch_id}") from None
    except ScheduleNotPending:
        raise Refused(f"nothing of batch {batch_id} is pending") from None
    found = {status.value: number for status, number in counts.items() if number}
    shown = ", ".join(f"{number:,} {status}" for status, number in found.items()) or "no messages"
    document = {"organisation_id": organisation, "batch_id": batch_id, "status": batch.status, "messages": found}
    return Report(document, [f"batch {batch_id} of {organisation} is cancelled. Its messages: {shown}"])


async def cancel_batches(stack: Stack, options: argparse.Namespace) -> Report:
    """Cancel the pending messages of all the organisation's batches that were created since a time.

    It cancels 50 at a time, so it can be started again after an interruption. Code 5 says that nothing is pending.
    """
    organisation, since, after = options.organisation, options.since, 0
    cancelled: list[int] = []
    while True:
        values = {"organisation": organisation, "since": since, "after": after, "limit": _PAGE}
        found = [row.id for row in await stack.rows("scheduling", _OPEN, **values)]
        if found:
            cancelled += await _cancel_each(stack, organisation, found)
            after = found[-1]
        if len(found) < _PAGE:
            break
    if not cancelled:
        raise Refused(f"no batch of {organisation} since {show_time(since)} has pending messages")
    lines = [f"{quantity(len(cancelled), 'batch', 'batches')} of {organisation} since {show_time(since)}: cancelled"]
    return Report({"organisation_id": organisation, "since": since, "cancelled": cancelled}, lines)


async def _cancel_each(stack: Stack, organisation: str, batch_ids: Sequence[int]) -> list[int]:
    """Cancel these batches in one transaction. Return those of which something was pending."""
    cancelled = []
    async with stack.session("scheduling", organisation) as session:
        for batch_id in batch_ids:
            try:
                await service.cancel_batch(session, system(organisation), batch_id)
            except (errors.NotFound, ScheduleNotPending):
                continue  # it ended meanwhile, or all its messages are dispatched
            cancelled.append(batch_id)
    return cancelled


def _add_batches(parser: argparse.ArgumentParser) -> None:
    add_organisation(parser)
    parser.add_argument(
        "--since", type=read_since, required=True, help="created since then: a time in ISO 8601, or an age such as 90m"
    )


def _add_batch(parser: argparse.ArgumentParser) -> None:
    add_organisation(parser)
    parser.add_argument("batch_id", type=read_positive, help="the API's id of the batch")


COMMAND = Group(
    "cancel",
    "cancel batches for an organisation",
    (
        Command("batch", "cancel the pending messages of a batch", cancel_batch, _add_batch, changes=True),
        Command("batches", "cancel those of all batches since a time", cancel_batches, _add_batches, changes=True),
    ),
)
