"""Import a spreadsheet and send to every contact, on the embedded stack or on a running one: `make demo`."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from common.phones import show_phone
from tools.demo.journey import (
    CSV,
    Api,
    JourneyFailed,
    Result,
    check_exactly_once,
    expected_messages,
    read_handset,
    run_journey,
)
from tools.embedded.environment import HOST, PORTS
from tools.embedded.supervised import StackError
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

ORGANISATION = "org_demo"
USER = "user_demo"
console = Console(highlight=False)


@dataclass
class System:
    """The addresses of the demonstrated system, and the issuer of its tokens."""

    gateway: str
    handset: str
    issuer: Issuer


class Screen:
    """Shows the progress: a progress bar in a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("waiting", total=1)
        self.messages = 0
        self.printed_at = 0.0

    def __call__(self, stage: str, values: dict[str, Any]) -> None:
        """Show a stage of the journey."""
        if stage == "import":
            console.print(
                f"  imported {values['imported']} of {values['total']} rows, refused {len(values['refused'])}"
            )
        elif stage == "opt-out":
            console.print(f"  opted out {show_phone(values['phone'])}, which must get no message")
        elif stage == "schedule":
            self.messages = values["messages"]
            console.print(f"  scheduled {self.messages} messages for {values['due']:%H:%M:%S} UTC")
            self.bar.update(self.task, total=self.messages, description="sending")
        elif stage == "sending":
            self._show_counts(values)

    def _show_counts(self, values: dict[str, Any]) -> None:
        done = sum(values.get(status, 0) for status in ("sent", "delivered", "failed", "cancelled"))
        self.bar.update(self.task, completed=done)
        if not console.is_terminal and (time.monotonic() - self.printed_at > 1 or done == self.messages):
            self.printed_at = time.monotonic()
            console.print(f"  {values['status']}: {done} of {self.messages} have their outcome")


@contextlib.asynccontextmanager
async def open_system(arguments: argparse.Namespace) -> AsyncIterator[System]:
    """Use the given addresses, or start an embedded stack for the time of the demo."""
    if arguments.gateway:
        yield System(arguments.gateway, arguments.handset, Issuer.from_environment())
        return
    console.print("starting the embedded stack (PostgreSQL, broker, four services, handset)")
    async with Stack(arguments.home, movable=PORTS) as stack:
        for name in stack.names:
            console.print(f"  {name:<18}{stack.url(name)}")
        party = stack.environment["CLERK_AUTHORIZED_PARTIES"].split(",")[0].strip()
        issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"], party)
        yield System(stack.url("gateway"), stack.url("handset"), issuer)


async def demonstrate(arguments: argparse.Namespace) -> int:
    """Run the journey and print its result. Return 0 when the result is as promised, else 1."""
    async with open_system(arguments) as system, aiohttp.ClientSession() as session:
        rows = CSV.read_bytes()
        before = len(await read_handset(session, system.handset))
        organisation = arguments.org or f"{ORGANISATION}_{time.time_ns() // 1_000_000_000}"

        def token() -> str:
            return arguments.token or mint(Session(USER, organisation, "admin"), system.issuer)

        screen = Screen()
        try:
            with screen.bar:
                result = await run_journey(Api(session, system.gateway, token), rows=rows, progress=screen)
            expected = expected_messages(rows, result.refused, result.opted_out_phone)
            check_exactly_once((await read_handset(session, system.handset))[before:], expected)
        except JourneyFailed as failure:
            console.print("[bold red]the result is not as promised:[/]", escape(str(failure)))
            return 1
        summarise(result, len(expected))
        stays = bool(arguments.gateway or arguments.keep)
        if stays:
            console.print("\nnext, try:")
        else:
            console.print("\nThe stack stops now. `make run` starts it again with the same contents. Then try:")
        next_steps(system if stays else _next_system(system), result, organisation)
        if arguments.keep:
            console.print("\nThe stack is running. Ctrl-C stops it.")
            stopping = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            await stopping.wait()
    return 0


def _next_system(system: System) -> System:
    """Return the system with the addresses that `make run` will use."""
    gateway, handset = (
        f"http://{HOST}:{os.environ.get(name) or PORTS[name]}" for name in ("GATEWAY_PORT", "HANDSET_PORT")
    )
    return System(gateway, handset, system.issuer)


def summarise(result: Result, expected: int) -> None:
    """Print the refused rows and the figures."""
    reasons = Table("row", "column", "value", "reason", title="refused rows", title_justify="left")
    for error in result.refused[:12]:
        reasons.add_row(str(error["row"]), str(error["column"]), str(error["value"]), error["error"])
    console.print(reasons)
    if len(result.refused) > 12:
        console.print(f"  … and {len(result.refused) - 12} more")
    late = sorted(result.lateness_s)
    figures = Table(show_header=False, title="result", title_justify="left")
    sent = result.counts.get("sent", 0) + result.counts.get("delivered", 0)
    figures.add_row("imported", f"{result.imported} of {result.total_rows}, {len(result.refused)} refused")
    figures.add_row("sent", f"{sent}, each exactly once on the handset ({expected} expected)")
    figures.add_row("failed", ", ".join(f"{n} {category}" for category, n in result.failures.items()) or "none")
    figures.add_row("parts", str(result.parts))
    figures.add_row("limit used", f"{result.limit_used} of {result.limit} this month")
    figures.add_row("messages/s", f"{sent / result.seconds:.0f}, from the due time to the last outcome")
    if late:
        figures.add_row("lateness", f"p50 {late[len(late) // 2]:.2f} s, p99 {late[int(len(late) * 0.99)]:.2f} s")
    console.print(figures)


def next_steps(system: System, result: Result, organisation: str) -> None:
    """Print commands to copy."""
    gateway = system.gateway
    lines = [
        f"TOKEN=$(make -s token ORG={organisation} USER={USER} ROLE=admin)",
        f'curl -s -H "Authorization: Bearer $TOKEN" "{gateway}/api/group-schedules/{result.schedule_id}/?limit=3"',
        f'curl -s -H "Authorization: Bearer $TOKEN" "{gateway}/api/contacts/?search=ana"',
        f'curl -s -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" "{gateway}/api/sms/send/"'
        """ -d '{"message": "Hello from Cooee", "recipient": "0441 000 000"}'""",
        f'curl -s "{system.handset}/api/messages/?limit=3"',
        f"{gateway}/api/docs/   # open in a browser",
    ]
    for line in lines:
        console.print("  " + line, soft_wrap=True, markup=False)


def main() -> None:
    """Run the demo with the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--gateway", help="address of a running gateway; without it an embedded stack is started")
    parser.add_argument("--handset", default="http://127.0.0.1:8090", help="address of the running handset")
    parser.add_argument("--home", default=os.environ.get("COOEE_HOME", ".cooee"), help="folder of the embedded stack")
    parser.add_argument("--token", help="session token for the gateway; by default the local issuer signs one")
    parser.add_argument("--org", help="id of the organisation; by default a new one")
    parser.add_argument("--keep", action="store_true", help="leave the stack running after the demo")
    try:
        sys.exit(asyncio.run(demonstrate(parser.parse_args())))
    except StackError as error:
        console.print("[bold red]The stack cannot start:[/]", escape(str(error)))
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("The demo was interrupted.")
        sys.exit(130)


if __name__ == "__main__":
    main()
