"""The command `import-v2`: import an organisation, or all, from v2. docs/moving-in.md is the guide."""

import argparse

from cooee.command import Command, Report
from cooee.moving_in.people import import_people
from cooee.moving_in.run import add_arguments, run_import
from cooee.moving_in.v2 import V2
from cooee.stack import Stack


async def import_v2(stack: Stack, options: argparse.Namespace) -> Report:
    """Import the organisations, contacts, groups, templates, configs and schedules of v2.

    The command can be repeated and interrupted: an imported row is written again only when it changed. Pending
    schedules are imported with --cut-over only, because v2 may still send them. At the end the rows here are compared
    with the source. The exit code is 1 when they disagree or a row was rejected.
    """
    return await run_import(stack, options, V2, import_people)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser, V2)
    parser.add_argument("--organisation", help="only this organisation, org_…; without it, all")
    parser.add_argument("--table-prefix", default=V2.prefix, help="what the names of v2's tables begin with (app_)")


COMMAND = Command("import-v2", "import organisations from v2", import_v2, _add_arguments, changes=True)
