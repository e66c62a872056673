"""The command `import-v1`: import the data of v1 into an organisation. docs/moving-in.md is the guide."""

import argparse
from functools import partial
from pathlib import Path

from cooee.command import Command, Report
from cooee.moving_in.people import find_people
from cooee.moving_in.run import add_arguments, run_import
from cooee.moving_in.v1 import V1
from cooee.stack import Stack


async def import_v1(stack: Stack, options: argparse.Namespace) -> Report:
    """Import the customers, groups, templates, configs and schedules of v1 into an organisation.

    The command can be repeated and interrupted: an imported row is written again only when it changed. Pending
    schedules are imported with --cut-over only, because v1 may still send them. At the end the rows here are compared
    with the source. The exit code is 1 when they disagree or a row was rejected.
    """
    return await run_import(stack, options, V1, partial(find_people, users=options.users))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser, V1)
    parser.add_argument("--organisation", required=True, help="the organisation that v1 moves into, org_…")
    parser.add_argument(
        "--users",
        type=Path,
        required=True,
        metavar="FILE",
        help="a CSV file of users: clerk_id, and one of v1_id, azure_id, email",
    )


COMMAND = Command("import-v1", "import the data of v1", import_v1, _add_arguments, changes=True)
