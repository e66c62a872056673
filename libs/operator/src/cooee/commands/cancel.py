"""The commands `cancel`: cancel an organisation's batch for it."""

import argparse

from common import errors
from common.caller import system
from cooee.arguments import add_organisation, read_positive
from cooee.command import Command, Group, Report
from cooee.errors import NotFound, Refused
from cooee.stack import Stack
from scheduling.batches import service
from scheduling.errors import ScheduleNotPending


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


def _add_batch(parser: argparse.ArgumentParser) -> None:
    add_organisation(parser)
    parser.add_argument("batch_id", type=read_positive, help="the API's id of the batch")


COMMAND = Group(
    "cancel",
    "cancel a batch for an organisation",
    (Command("batch", "cancel the pending messages of a batch", cancel_batch, _add_batch, changes=True),),
)
