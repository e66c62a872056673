"""Scenarios of requests to the API: the import, lists, new contacts and schedules, and two organisations at once."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tools.bench.bench import Bench, phone
from tools.bench.cpu import measure_cpu
from tools.bench.load import run_load
from tools.bench.yardsticks import CONNECTIONS, Yard

ZONE = ZoneInfo("Australia/Adelaide")
"""The default time zone of an organisation, in which the day of a list begins."""
_CONTACTS = 10_000
_SINGLE = 500
_HAMMERED_S = 15.0
_OTHER_CONTACTS = 100


async def import_group(bench: Bench) -> None:
    """Measure the import of the contacts that the other scenarios read, into the group to which they send."""
    bench.shared.group = await bench.import_contacts(bench.size(_CONTACTS), "bench")


async def list_contacts(bench: Bench) -> None:
    """Measure the first page of the contacts."""
    request = bench.get("/api/contacts/")
    await bench.measure_load("GET contacts", lambda _: request)


async def search_contacts(bench: Bench) -> None:
    """Measure a search that finds a ninth of the contacts."""
    request = bench.get("/api/contacts/?search=first7")
    await bench.measure_load("GET contacts?search", lambda _: request)


async def create_contacts(bench: Bench) -> None:
    """Measure new contacts, each with a phone of its own."""
    await bench.measure_load("POST contacts", lambda _: _new_contact(bench))


async def create_schedules(bench: Bench) -> None:
    """Measure new schedules for tomorrow."""
    await bench.measure_load("POST schedules", lambda number: new_schedule(bench, number, _tomorrow()))


async def list_schedules(bench: Bench) -> None:
    """Measure the first page of the day on which the scenario `due` sent its schedules, or else of new ones."""
    day = bench.shared.due_day
    if day is None:
        due = _tomorrow()
        await run_load(bench.address, CONNECTIONS, lambda number: new_schedule(bench, number, due), count=200)
        day = due.astimezone(ZONE).date()
    request = bench.get(f"/api/schedules/?date={day}")
    await bench.measure_load("GET schedules", lambda _: request)


async def single(bench: Bench) -> None:
    """Measure requests one after another, on a stack that does nothing else."""
    page, count = bench.get("/api/contacts/"), bench.size(_SINGLE)
    await bench.measure_single("single GET contacts", lambda _: page, count)
    await bench.measure_single("single POST contacts", lambda _: _new_contact(bench), count)


async def hammer(bench: Bench) -> None:
    """Measure requests of one organisation, alone and while another keeps 32 requests for a list in flight."""
    other = bench.of("org_bench_other")
    await run_load(other.address, 4, lambda _: _new_contact(other), count=_OTHER_CONTACTS)
    page, seconds = other.get("/api/contacts/"), _HAMMERED_S * bench.shared.scale
    with measure_cpu(bench.pids) as use:
        alone = await run_load(other.address, 1, lambda _: page, seconds=seconds)
    bench.report.load("other organisation alone", alone, use, Yard.PROXY)
    # The load has a process of its own, so that the measured requests do not wait for it.
    hammering = asyncio.create_task(_hammer_apart(bench, seconds + 2))
    await asyncio.sleep(1)  # the load has begun
    with measure_cpu(bench.pids) as use:
        beside = await run_load(other.address, 1, lambda _: page, seconds=seconds)
    requests = await hammering
    share = seconds / (seconds + 2)
    bench.report.rate(
        "hammering organisation",
        requests["per_second"],
        "requests/s",
        Yard.PROXY_32,
        cpu_ms=use.per(requests["successes"] * share + beside.successes),
        remark=requests["failures"],
    )
    bench.report.latency("other organisation beside it, p50", beside.quantile_ms(0.5), Yard.PROXY)
    bench.report.latency("other organisation beside it, p99", beside.quantile_ms(0.99), Yard.PROXY)
    ratio = beside.quantile_ms(0.99) / max(alone.quantile_ms(0.99), 1e-9)
    remark = ", ".join(filter(None, (f"{beside.successes:,} requests", beside.failures)))
    bench.report.plain("other organisation, p99 beside to alone", ratio, "times", remark=remark)


async def _hammer_apart(bench: Bench, seconds: float) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.bench.hammer", bench.address.host, str(bench.address.port), str(seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(bench.get("/api/contacts/"))
    found: dict[str, Any] = json.loads(output)
    return found


def _new_contact(bench: Bench) -> bytes:
    body = {"first_name": "New", "last_name": "Person", "phone": phone(next(bench.shared.new_numbers))}
    return bench.post("/api/contacts/", body)


def new_schedule(bench: Bench, number: int, due: datetime) -> bytes:
    """Return a request for a schedule to the n-th phone."""
    body = {"text": "Your appointment is now.", "phone": phone(number), "scheduled_time": due.isoformat()}
    return bench.post("/api/schedules/", body)


def _tomorrow() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
