"""Measure Cooee on this machine: `make bench`. The load generator shares the machine with the system.

Each scenario (one message per request, batches of 100) has a new embedded stack in `.cooee/bench`. The handset answers
each request after 20 ms. `--quick` uses a tenth of the numbers.
"""

import argparse
import asyncio
import io
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from tools.bench.load import Load, run_load
from tools.demo.journey import Api, read_handset
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

ORGANISATION, USER = "org_bench", "user_bench"
LATENCY_MS = 20
CONNECTIONS = 32
STEADY_PER_S = 300
_UNTHROTTLED = "100000/s"
_TIMEOUT_S = 180


class Bench:
    """A stack and an organisation for measurements."""

    def __init__(
        self, stack: Stack, session: aiohttp.ClientSession, scale: float, organisation: str = ORGANISATION
    ) -> None:
        self.stack, self.session, self.scale = stack, session, scale
        self.gateway, self.handset = stack.url("gateway"), stack.url("handset")
        issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
        token = mint(Session(USER, organisation, "admin"), issuer)
        self.headers = {"Authorization": f"Bearer {token}"}
        self.api = Api(session, self.gateway, lambda: token)

    def size(self, full: int) -> int:
        """Return a number scaled by `--quick`."""
        return max(1, int(full * self.scale))

    async def clear_handset(self) -> None:
        """Delete the messages on the handset."""
        async with self.session.delete(f"{self.handset}/api/messages/") as answer:
            answer.raise_for_status()

    async def arrivals(self, count: int) -> list[dict[str, Any]]:
        """Wait until the handset has `count` messages, and return them."""
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            async with self.session.get(f"{self.handset}/api/requests/") as answer:
                arrived = (await answer.json())["messages"]
            if arrived >= count or time.monotonic() > deadline:
                return await read_handset(self.session, self.handset)
            await asyncio.sleep(0.2)


def phone(number: int) -> str:
    """Return a number with a prefix that is not allocated."""
    return f"+614{41 + number // 1_000_000}{number % 1_000_000:06d}"


async def bench_import(bench: Bench, rows: int, name: str) -> int:
    """Import `rows` contacts into a new group, and return its id."""
    group = await bench.api.call("POST", "/api/groups/", json={"name": name})
    file = io.BytesIO()
    file.write(b"first_name,last_name,phone\n")
    file.writelines(f"First{n},Last{n},{phone(n)}\n".encode() for n in range(rows))
    form = aiohttp.FormData()
    form.add_field("file", file.getvalue(), filename="bench.csv", content_type="text/csv")
    started = time.perf_counter()
    path = f"/api/contacts/import/?group_id={group['id']}"
    report = await bench.api.call("POST", path, data=form, expect=(200, 207))
    seconds = time.perf_counter() - started
    show(f"import: {report['imported'] / seconds:,.0f} rows/s ({report['imported']:,} rows in {seconds:.2f} s)")
    return int(group["id"])


async def bench_due(bench: Bench, group: int, count: int, scenario: str) -> None:
    """Measure a batch to all members, from its due time to the last arrival on the handset."""
    await bench.clear_handset()
    due = datetime.now(UTC) + timedelta(seconds=8)
    body = {
        "name": scenario,
        "group_id": group,
        "text": "Hi {{first_name}}, see you soon",
        "scheduled_time": due.isoformat(),
    }
    await bench.api.call("POST", "/api/group-schedules/", json=body)
    messages = await bench.arrivals(count)
    seconds = received(messages[-1]) - due.timestamp()
    once = len({message["to"] for message in messages}) == len(messages) == count
    warning = "" if once else ", NOT EXACTLY ONCE"
    show(f"{scenario}: {count / seconds:,.0f} messages/s ({count:,} in {seconds:.2f} s{warning})")


def received(message: dict[str, Any]) -> float:
    """Return the time at which the handset received a message, in Unix seconds."""
    return datetime.fromisoformat(message["received_at"]).timestamp()


async def bench_steady(bench: Bench, seconds: int) -> None:
    """Measure how late single schedules reach the handset when they are due at a steady rate."""
    await bench.clear_handset()
    count = STEADY_PER_S * seconds
    begins = time.time() + 5 + count / 60
    times = {phone(n): begins + n / STEADY_PER_S for n in range(count)}
    body = {"text": "Steady", "name": "steady"}

    def request(number: int) -> dict[str, Any]:
        moment = datetime.fromtimestamp(times[phone(number)], UTC).isoformat()
        more = {"phone": phone(number), "scheduled_time": moment}
        return {
            "method": "POST",
            "url": f"{bench.gateway}/api/schedules/",
            "json": {**body, **more},
            "headers": bench.headers,
        }

    created = await run_load(bench.session, CONNECTIONS, request, count=count)
    show(f"created schedules: {created.per_second:,.0f} requests/s, {created.statuses}")
    messages = await bench.arrivals(created.statuses.get(201, 0))
    late = sorted(received(message) - times[message["to"]] for message in messages)
    if late:
        p50, p99 = late[len(late) // 2], late[int(len(late) * 0.99)]
        show(
            f"lateness at {STEADY_PER_S}/s: p50 {p50 * 1000:,.0f} ms, p99 {p99 * 1000:,.0f} ms ({len(late):,} messages)"
        )


async def bench_sends(bench: Bench, seconds: float) -> None:
    """Measure accepted immediate sends at the gateway."""
    await bench.clear_handset()

    def request(number: int) -> dict[str, Any]:
        body = {"message": "Send now", "recipient": phone(500_000 + number)}
        return {"method": "POST", "url": f"{bench.gateway}/api/sms/send/", "json": body, "headers": bench.headers}

    load = await run_load(bench.session, CONNECTIONS, request, seconds=seconds)
    show_load("accepted sends", load)
    accepted = load.statuses.get(202, 0)
    arrived = len(await bench.arrivals(accepted))
    show(f"arrived on the handset: {arrived:,} of {accepted:,}")


async def bench_reads(bench: Bench, seconds: float) -> None:
    """Measure the list of contacts, 50 per page, through the gateway."""
    url = f"{bench.gateway}/api/contacts/"
    load = await run_load(
        bench.session,
        CONNECTIONS,
        lambda _: {"method": "GET", "url": url, "headers": bench.headers},
        seconds=seconds,
    )
    show_load("GET /api/contacts/", load)


async def bench_large(bench: Bench, rows: int) -> None:
    """Measure a large organisation: its import, the first and last pages of its lists, and a batch to all its contacts.

    Each step must be answered within a second, because long work continues after the answer.
    """
    large = Bench(bench.stack, bench.session, bench.scale, "org_bench_large")
    group = await bench_import(large, rows, "large")
    await time_pages(large, {"contacts": "/api/contacts/?page={}", "members": f"/api/groups/{group}/?page={{}}"}, rows)
    await timed(large, "a search", "GET", "/api/contacts/?search=first99")
    limit = await large.api.call("POST", "/api/configs/", json={"name": "sms_limit", "value": "0"})
    later = datetime.now(UTC) + timedelta(days=30)
    body = {"name": "large", "group_id": group, "text": "Hi {{first_name}}", "scheduled_time": later.isoformat()}
    batch = (await timed(large, f"a batch to {rows:,}: POST", "POST", "/api/group-schedules/", json=body))["id"]
    path = f"/api/group-schedules/{batch}/"
    # A page has only messages that the fan-out has created, while the counts include all members.
    last = f"{path}?page={rows // 50}"
    await reached(large, last, lambda answer: len(answer["schedules"]) == 50, "fan-out")
    await time_pages(large, {"messages of the batch": path + "?page={}"}, rows)
    await timed(large, "PATCH of its text", "PATCH", path, json={"text": "Hello {{first_name}}"})
    due = datetime.now(UTC) + timedelta(seconds=2)
    await timed(large, "PATCH of its time to now", "PATCH", path, json={"scheduled_time": due.isoformat()})
    refused = f"{path}?limit=1"
    await reached(
        large,
        refused,
        lambda answer: answer["counts"].get("failed", 0) == rows,
        "all messages failed because of a limit of 0",
    )
    await timed(large, "retry of all", "POST", f"{path}retry/")
    await timed(large, "DELETE of the batch", "DELETE", path)
    await large.api.call("PATCH", f"/api/configs/{limit['id']}/", json={"value": "unlimited"})


async def timed(bench: Bench, name: str, method: str, path: str, **more: Any) -> Any:
    """Send a request, print its duration, and return its answer."""
    started = time.perf_counter()
    answer = await bench.api.call(method, path, **more)
    show(f"{name}: {(time.perf_counter() - started) * 1000:,.0f} ms")
    return answer


async def time_pages(bench: Bench, paths: dict[str, str], rows: int) -> None:
    """Measure the first and the last page of lists of `rows`. The duration must not grow with the page."""
    for name, path in paths.items():
        for which, page in (("first", 1), ("last", rows // 50)):
            request = {"method": "GET", "url": bench.gateway + path.format(page), "headers": bench.headers}
            load = await run_load(bench.session, 1, lambda _, r=request: r, count=20)  # type: ignore[misc]
            show(f"{name} of {rows:,}, {which} page: p50 {load.quantile_ms(0.5):.0f} ms, {load.statuses}")


async def reached(bench: Bench, path: str, condition: Callable[[Any], bool], name: str) -> None:
    """Poll until an answer meets the condition, and print the duration."""
    started = time.perf_counter()
    while not condition(await bench.api.call("GET", path)):
        if time.perf_counter() - started > _TIMEOUT_S:
            show(f"{name}: NOT within {_TIMEOUT_S} s")
            return
        await asyncio.sleep(0.5)
    show(f"{name}: after {time.perf_counter() - started:,.1f} s")


def show(line: str) -> None:
    """Print a result."""
    print("  " + line, flush=True)


def show_load(name: str, load: Load) -> None:
    quantiles = f"p50 {load.quantile_ms(0.5):.0f} ms, p99 {load.quantile_ms(0.99):.0f} ms"
    show(f"{name}: {load.per_second:,.0f} requests/s at {CONNECTIONS} connections, {quantiles}, {load.statuses}")


def show_memory(stack: Stack) -> None:
    """Print the largest resident size of each process.

    For PostgreSQL it is the present size of all its processes, with shared memory counted once.
    """
    sizes = []
    for name in stack.names:
        try:
            pid = stack.pid(name)
            kilobytes = _postgres_kb(pid) if name == "postgres" else _field_kb(Path(f"/proc/{pid}/status"), "VmHWM")
        except OSError:
            continue
        sizes.append(f"{name} {kilobytes / 1024:.0f} MB")
    show("memory: " + ", ".join(sizes))


def _postgres_kb(pid: int) -> int:
    backends = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_field_kb(Path(f"/proc/{process}/smaps_rollup"), "Pss") for process in (str(pid), *backends))


def _field_kb(file: Path, field: str) -> int:
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(f"{field}:")), 0)


async def measure(name: str, home: Path, environment: dict[str, str], scale: float, whole: bool) -> None:
    """Measure the batch on a new stack with these settings, and with `whole` everything else too."""
    shutil.rmtree(home, ignore_errors=True)
    settings = {
        **os.environ,
        "HANDSET_LATENCY_MS": str(LATENCY_MS),
        **{f"THROTTLE_RATE_{kind}": _UNTHROTTLED for kind in ("ANON", "USER", "SMS", "IMPORT")},
        "LOG_LEVEL": "WARNING",
        **environment,
    }
    print(f"{name}: {', '.join(f'{k}={v}' for k, v in environment.items())}", flush=True)
    connector = aiohttp.TCPConnector(limit=0)
    async with Stack(home, settings) as stack, aiohttp.ClientSession(connector=connector) as session:
        bench = Bench(stack, session, scale)
        count = bench.size(10_000)
        group = await bench_import(bench, count, name)
        await bench_due(bench, group, count, name)
        if whole:
            await bench_steady(bench, bench.size(20))
            await bench_sends(bench, 10 * scale)
            await bench_reads(bench, 8 * scale)
            await bench_large(bench, bench.size(100_000))
        show_memory(stack)


async def main() -> None:
    """Measure both scenarios."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="use a tenth of the numbers")
    parser.add_argument("--home", type=Path, default=Path(".cooee/bench"), help="folder of the stacks")
    arguments = parser.parse_args()
    scale = 0.1 if arguments.quick else 1.0
    cores = os.cpu_count()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cores} cores, handset latency {LATENCY_MS} ms")
    single = {"MOBILE_MESSAGE_BATCH_SIZE": "1", "MOBILE_MESSAGE_CONCURRENCY": "128"}
    batches = {"MOBILE_MESSAGE_BATCH_SIZE": "100", "MOBILE_MESSAGE_CONCURRENCY": "5"}
    await measure("one message per request", arguments.home / "single", single, scale, whole=True)
    await measure("batches of 100", arguments.home / "batches", batches, scale, whole=False)


if __name__ == "__main__":
    uvloop.run(main())
