"""The commands `retry`: send failed messages of an organisation again, as its members can in the API."""

import argparse

from common import errors
from common.caller import system
from cooee.arguments import add_organisation, read_positive
from cooee.command import Command, Group, Report
from cooee.errors import NotFound, Refused
from cooee.output import is_or_are, quantity
from cooee.stack import Stack
from scheduling.retries import service


async def retry_schedule(stack: Stack, options: argparse.Namespace) -> Report:
    """Send a failed message again. It counts against the organisation's limit again.

    A message that may have arrived (outcome_unknown) is refused with code 5, unless --include-unknown is given.
    """
    organisation, schedule_id = options.organisation, options.id
    try:
        async with stack.session("scheduling", organisation) as session:
            row = await service.retry_schedule(session, system(organisation), schedule_id, options.include_unknown)
    except errors.NotFound:
        raise NotFound(f"{organisation} has no schedule {schedule_id}") from None
    except errors.AppError as error:
        raise Refused(f"schedule {schedule_id}: {error.detail}") from None
    document = {"organisation_id": organisation, "schedule_id": schedule_id, "status": row.status}
    return Report(document, [f"schedule {schedule_id} of {organisation} is {row.status} again"])


async def retry_batch(stack: Stack, options: argparse.Namespace) -> Report:
    """Send all failed messages of a batch again, those that may have arrived only with --include-unknown."""
    organisation, batch_id = options.organisation, options.id
    try:
        async with stack.session("scheduling", organisation) as session:
            number = await service.retry_batch(session, system(organisation), batch_id, options.include_unknown)
    except errors.NotFound:
        raise NotFound(f"{organisation} has no batch {batch_id}") from None
    except errors.AppError as error:
        raise Refused(f"batch {batch_id}: {error.detail}") from None
    document = {"organisation_id": organisation, "batch_id": batch_id, "retried": number}
    line = f"{quantity(number, 'failed message')} of batch {batch_id} {is_or_are(number)} sent again"
    return Report(document, [line])


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_organisation(parser)
    parser.add_argument("id", type=read_positive, help="the API's id")
    parser.add_argument("--include-unknown", action="store_true", help="also messages that may have arrived")


COMMAND = Group(
    "retry",
    "send failed messages of an organisation again",
    (
        Command("schedule", "send one failed message again", retry_schedule, _add_arguments, changes=True),
        Command("batch", "send all failed messages of a batch again", retry_batch, _add_arguments, changes=True),
    ),
)
