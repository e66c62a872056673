"""`make demo`: the main job on the embedded stack, or with --gateway and --handset on one that runs already."""

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
from tools.embedded.supervisor import Stack, StackError
from tools.token import Issuer, Session, mint

ORGANISATION = "org_demo"
USER = "user_demo"
console = Console(highlight=False)


@dataclass
class Place:
    """Where the system under demonstration answers."""

    gateway: str
    handset: str
    issuer: Issuer


class Screen:
    """Shows the stages as they happen: a moving bar in a terminal, plain lines elsewhere."""

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
        self.children = 0
        self.told = 0.0

    def __call__(self, stage: str, facts: dict[str, Any]) -> None:
        if stage == "import":
            console.print(f"  imported {facts['imported']} of {facts['total']} rows, refused {len(facts['refused'])}")
        elif stage == "opt-out":
            console.print(f"  opted out {show_phone(facts['phone'])}, who must get nothing")
        elif stage == "schedule":
            self.children = facts["children"]
            console.print(f"  scheduled {self.children} messages for {facts['due']:%H:%M:%S} UTC")
            self.bar.update(self.task, total=self.children, description="sending")
        elif stage == "sending":
            self._sending(facts)

    def _sending(self, facts: dict[str, Any]) -> None:
        done = sum(facts.get(status, 0) for status in ("sent", "delivered", "failed", "cancelled"))
        self.bar.update(self.task, completed=done)
        if not console.is_terminal and (time.monotonic() - self.told > 1 or done == self.children):
            self.told = time.monotonic()
            console.print(f"  {facts['status']}: {done} of {self.children} have their outcome")


@contextlib.asynccontextmanager
async def place(arguments: argparse.Namespace) -> AsyncIterator[Place]:
    """The given addresses, or an embedded stack of our own."""
    if arguments.gateway:
        yield Place(arguments.gateway, arguments.handset, Issuer.from_environment())
        return
    console.print("starting the embedded stack (PostgreSQL, broker, four services, handset)")
    async with Stack(arguments.home) as stack:
        party = stack.environment["CLERK_AUTHORIZED_PARTIES"].split(",")[0].strip()
        issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"], party)
        yield Place(stack.url("gateway"), stack.url("handset"), issuer)


async def demonstrate(arguments: argparse.Namespace) -> int:
    """Runs the journey and tells what came of it. 0 when every promise was kept."""
    async with place(arguments) as here, aiohttp.ClientSession() as session:
        rows = CSV.read_bytes()
        before = len(await read_handset(session, here.handset))
        organisation = arguments.org or f"{ORGANISATION}_{time.time_ns() // 1_000_000_000}"

        def token() -> str:
            return arguments.token or mint(Session(USER, organisation, "admin"), here.issuer)

        screen = Screen()
        try:
            with screen.bar:
                result = await run_journey(Api(session, here.gateway, token), rows=rows, progress=screen)
            expected = expected_messages(rows, result.refused, result.opted_out_phone)
            check_exactly_once((await read_handset(session, here.handset))[before:], expected)
        except JourneyFailed as failure:
            console.print("[bold red]not as promised:[/]", escape(str(failure)))
            return 1
        summarise(result, len(expected))
        if arguments.gateway or arguments.keep:
            console.print("\nto look around:")
        else:
            console.print("\nthe stack is stopped now; `make run` brings it back with its data:")
        next_steps(here, result, organisation)
        if arguments.keep:
            console.print("\nrunning; Ctrl-C stops it")
            stopped = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
            await stopped.wait()
    return 0


def summarise(result: Result, expected: int) -> None:
    """The figures of the run."""
    reasons = Table("row", "column", "value", "why it was refused", title="refused rows", title_justify="left")
    for error in result.refused[:12]:
        reasons.add_row(str(error["row"]), str(error["column"]), str(error["value"]), error["error"])
    console.print(reasons)
    if len(result.refused) > 12:
        console.print(f"  … and {len(result.refused) - 12} more")
    late = sorted(result.lateness_s)
    figures = Table(show_header=False, title="what came of it", title_justify="left")
    sent = result.counts.get("sent", 0) + result.counts.get("delivered", 0)
    figures.add_row("imported", f"{result.imported} of {result.total_rows}, {len(result.refused)} refused")
    figures.add_row("sent", f"{sent}, each once on the handset ({expected} expected)")
    figures.add_row("failed", ", ".join(f"{n} {category}" for category, n in result.failures.items()) or "none")
    figures.add_row("parts", str(result.parts))
    figures.add_row("limit used", f"{result.limit_used} of {result.limit} this month")
    figures.add_row("messages/s", f"{sent / result.seconds:.0f} from due to the last outcome")
    if late:
        figures.add_row("lateness", f"p50 {late[len(late) // 2]:.2f} s, p99 {late[int(len(late) * 0.99)]:.2f} s")
    console.print(figures)


def next_steps(here: Place, result: Result, organisation: str) -> None:
    """Lines ready to be copied."""
    lines = [
        f"TOKEN=$(make -s token ORG={organisation} USER={USER} ROLE=admin)",
        f'curl -s -H "Authorization: Bearer $TOKEN" "{here.gateway}/api/group-schedules/{result.schedule_id}/?limit=3"',
        f'curl -s -H "Authorization: Bearer $TOKEN" "{here.gateway}/api/contacts/?search=ana"',
        f'curl -s -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" "{here.gateway}/api/sms/send/"'
        """ -d '{"message": "Hello from Cooee", "recipient": "0441 000 000"}'""",
        f'curl -s "{here.handset}/api/messages/?limit=3"',
        f"{here.gateway}/api/docs/   # in a browser",
    ]
    for line in lines:
        console.print("  " + line, soft_wrap=True, markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--gateway", help="address of a running gateway")
    parser.add_argument("--handset", default="http://127.0.0.1:8090", help="address of its handset")
    parser.add_argument("--home", default=os.environ.get("COOEE_HOME", ".cooee"), help="folder of the embedded stack")
    parser.add_argument("--token", help="session token for that gateway; minted by the local issuer unless given")
    parser.add_argument("--org", help="organisation; a new one each time unless given")
    parser.add_argument("--keep", action="store_true", help="leave the stack running afterwards")
    try:
        sys.exit(asyncio.run(demonstrate(parser.parse_args())))
    except StackError as error:
        console.print("[bold red]the stack cannot start:[/]", escape(str(error)))
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped before its end")
        sys.exit(130)


if __name__ == "__main__":
    main()
