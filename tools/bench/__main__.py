"""Measure Cooee on this machine: `make bench`. The load generator shares the machine with the system.

Each figure is printed with its ratio to a yardstick that is measured in the same run, and with the CPU-ms of one
request by process. The run is appended to `history.jsonl` as one line. The handset answers after 20 ms.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import uvloop

from tools.bench import growth, large, requests, resources, sending
from tools.bench.bench import Bench, Scenario, Shared
from tools.bench.report import Report, Run, append_history, yardstick_lines
from tools.bench.yardsticks import measure_yardsticks
from tools.demo.journey import JourneyFailed
from tools.embedded.supervised import REPOSITORY
from tools.embedded.supervisor import Stack

LATENCY_MS = 20
_UNTHROTTLED = "100000/s"
_START_S = 3.0
_YARDSTICK_S = 2.0
# In this order. The scenarios up to `single` need an idle stack, and the lists are read before rows are added to them.
SINGLE_CALLS: dict[str, Scenario] = {
    "import": requests.import_group,
    "idle": resources.idle,
    "single": requests.single,
    "contacts": requests.list_contacts,
    "search": requests.search_contacts,
    "hammer": requests.hammer,
    "create-contacts": requests.create_contacts,
    "create-schedules": requests.create_schedules,
    "due": sending.due,
    "schedules": requests.list_schedules,
    "sends": sending.sends,
    "steady": sending.steady,
    "group": sending.group,
    "large": large.large,
    "growth": growth.growth,
    "memory": resources.memory,
}
BATCHES: dict[str, Scenario] = {"batches": sending.batches}
NAMES = [*SINGLE_CALLS, *BATCHES]
# The stacks by name, with the settings and the scenarios of each.
STACKS: dict[str, tuple[dict[str, str], dict[str, Scenario]]] = {
    "single calls": ({"MOBILE_MESSAGE_BATCH_SIZE": "1", "MOBILE_MESSAGE_CONCURRENCY": "128"}, SINGLE_CALLS),
    "batches of 100": ({"MOBILE_MESSAGE_BATCH_SIZE": "100", "MOBILE_MESSAGE_CONCURRENCY": "5"}, BATCHES),
}
# A scenario that fails in one of these ways does not end the run. The last two come from answers of another form.
_FAILURES = (
    *(JourneyFailed, RuntimeError, TimeoutError, OSError, aiohttp.ClientError, asyncpg.PostgresError),
    *(LookupError, ValueError),
)


def choose(only: Sequence[str] | None) -> dict[str, dict[str, Scenario]]:
    """Return the stacks that are needed for these scenarios with the scenarios of each. None chooses all."""
    chosen = {
        stack: {name: scenario for name, scenario in scenarios.items() if not only or name in only}
        for stack, (_, scenarios) in STACKS.items()
    }
    return {stack: scenarios for stack, scenarios in chosen.items() if scenarios}


def stack_settings(own: dict[str, str]) -> dict[str, str]:
    """Return the environment of a stack: as in production, but with a provider of known latency and no rate limits."""
    return {
        **os.environ,
        "HANDSET_LATENCY_MS": str(LATENCY_MS),
        **{f"THROTTLE_RATE_{kind}": _UNTHROTTLED for kind in ("ANON", "USER", "SMS", "IMPORT")},
        "LOG_FORMAT": "json",
        **own,
    }


async def measure_stack(
    home: Path, settings: dict[str, str], scenarios: dict[str, Scenario], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Start a new stack, measure the yardsticks and the scenarios, and return the figures for the history."""
    shutil.rmtree(home, ignore_errors=True)
    scale = 0.1 if arguments.quick else 1.0
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Stack(home, stack_settings(settings), free_ports=True) as stack,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        await asyncio.sleep(_START_S)
        database = {"postgres": stack.pid("postgres")} if "postgres" in stack.names else {}
        seconds = max(0.5, _YARDSTICK_S * scale)

        async def measure_now() -> Any:
            return await measure_yardsticks(stack.environment["DATABASE_URL"], lambda: database, seconds)

        yardsticks = await measure_now()
        _show("yardsticks", yardstick_lines(yardsticks))
        report = Report(yardsticks)
        bench = Bench(Shared(stack, session, report, scale=scale, growth=arguments.growth))
        needed = {"import": requests.import_group}  # every scenario needs its contacts
        for name, scenario in (needed | scenarios).items():
            report.scenario = name
            try:
                await scenario(bench)
            except _FAILURES as error:
                report.fail(f"{type(error).__name__}: {error}"[:500])
        after = await measure_now()
        _show("yardsticks at the end", yardstick_lines(yardsticks, after))
        later = {str(yard): yardstick.as_json() for yard, yardstick in after.items()}
        return {**report.as_json(), "yardsticks_at_the_end": later}


def _show(title: str, lines: Sequence[str]) -> None:
    print(f"  {title}", *lines, sep="\n    ", flush=True)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout


def read_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="use a tenth of the numbers and of the time")
    parser.add_argument(
        "--growth", action="store_true", help="2,000,000 schedules and messages in `growth`, not 200,000"
    )
    parser.add_argument("--home", type=Path, default=Path(".cooee/bench"), help="folder of the stacks and the history")
    return parser.parse_args(given)


async def main(arguments: argparse.Namespace) -> int:
    """Measure the chosen scenarios on their stacks. Returns 1 when one of them failed."""
    run = Run(
        commit=_git("rev-parse", "--short", "HEAD").strip(),
        is_clean=not _git("status", "--porcelain", "--untracked-files=no").strip(),
        cores=os.cpu_count() or 0,
        api_workers=int(os.environ.get("API_WORKERS") or 1),
        load=os.getloadavg()[0],
        scale=0.1 if arguments.quick else 1.0,
    )
    changed = "" if run.is_clean else " with changes"
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {run.commit}{changed}, {run.cores} cores, load {run.load:.2f}"
    )
    stacks: dict[str, Any] = {}
    for name, scenarios in choose(arguments.only).items():
        settings, _ = STACKS[name]
        print(f"{name}: {', '.join(f'{key}={value}' for key, value in settings.items())}", flush=True)
        stacks[name] = await measure_stack(arguments.home / name.replace(" ", "-"), settings, scenarios, arguments)
    history = arguments.home / "history.jsonl"
    append_history(history, run.history_line(stacks))
    print(f"the figures were added to {history}")
    return 1 if any(figures["failed"] for figures in stacks.values()) else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main(read_arguments())))
