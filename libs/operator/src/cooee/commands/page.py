"""The command `page`: serve the operators' page."""

import argparse

from cooee.command import Command, Report
from cooee.stack import Stack


async def serve_page(stack: Stack, options: argparse.Namespace) -> Report:
    """Serve the operators' page until Ctrl-C. docs/operators.md has its settings.

    It listens on BIND_HOST, by default on 127.0.0.1. Only members of the organisation OPERATORS_ORGANISATION at Clerk
    with the role OPERATORS_ROLE may use it.
    """
    # The page uses all commands, and the other commands need no web framework.
    from cooee.page.server import serve  # noqa: PLC0415
    from cooee.page.settings import PageSettings  # noqa: PLC0415

    changes = {"operators_port": options.port} if options.port else {}
    settings = stack.read_settings(PageSettings, "the operators' page", **changes)
    await serve(settings, stack)
    return Report({"url": settings.origins[0]}, ["the operators' page has ended"])


def _read_port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= 65_535):
        raise argparse.ArgumentTypeError(f"{value!r} is not a port from 1 to 65535")
    return int(value)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_read_port, help="the port, instead of OPERATORS_PORT (8085)")


COMMAND = Command("page", "serve the operators' page", serve_page, _add_arguments)
