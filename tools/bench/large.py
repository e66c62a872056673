"""A large organisation: its import, the first and last pages of its lists, and a batch to all its contacts.

Each step must be answered within a second, because long work continues after the answer.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.bench.bench import TIMEOUT_S, Bench
from tools.bench.cpu import measure_cpu
from tools.bench.load import run_load
from tools.bench.yardsticks import Yard

_ROWS = 100_000
_PAGE = 50
_REQUESTS = 50


async def large(bench: Bench) -> None:
    """Measure a large organisation from its import to the end of a batch."""
    bench = bench.of("org_bench_large")
    rows = bench.size(_ROWS)
    group = await bench.import_contacts(rows, "large")
    await _time_pages(bench, "contacts", "/api/contacts/?page={}", rows)
    await _time_pages(bench, "members", f"/api/groups/{group}/?page={{}}", rows)
    limit = await bench.api.call("POST", "/api/configs/", json={"name": "sms_limit", "value": "0"})
    later = datetime.now(UTC) + timedelta(days=30)
    body = {"name": "large", "group_id": group, "text": "Hi {{first_name}}", "scheduled_time": later.isoformat()}
    batch = await _timed(bench, f"batch to {rows:,}: POST", "POST", "/api/group-schedules/", json=body)
    path = f"/api/group-schedules/{batch['id']}/"
    # A page has only messages that the fan-out has created, while the counts include all members.
    last = f"{path}?page={rows // _PAGE}"
    await _reached(bench, last, lambda answer: len(answer["schedules"]) == _PAGE, "batch: fan-out")
    await _time_pages(bench, "messages of the batch", path + "?page={}", rows)
    await _timed(bench, "batch: PATCH of its text", "PATCH", path, json={"text": "Hello {{first_name}}"})
    due = datetime.now(UTC) + timedelta(seconds=2)
    await _timed(bench, "batch: PATCH of its time to now", "PATCH", path, json={"scheduled_time": due.isoformat()})
    await _reached(
        bench,
        f"{path}?limit=1",
        lambda answer: answer["counts"].get("failed", 0) == rows,
        "batch: all failed because of a limit of 0",
    )
    await _timed(bench, "batch: retry of all", "POST", f"{path}retry/")
    await _timed(bench, "batch: DELETE", "DELETE", path)
    await bench.api.call("PATCH", f"/api/configs/{limit['id']}/", json={"value": "unlimited"})


async def _timed(bench: Bench, name: str, method: str, path: str, **more: Any) -> Any:
    """Send a request, add its duration, and return its answer."""
    started = time.perf_counter()
    answer = await bench.api.call(method, path, **more)
    bench.report.latency(name, (time.perf_counter() - started) * 1000, Yard.PROXY)
    return answer


async def _time_pages(bench: Bench, name: str, path: str, rows: int) -> None:
    """Measure the first and the last page of a list. The duration must not grow with the page."""
    for which, page in (("first", 1), ("last", rows // _PAGE)):
        request = bench.get(path.format(page))
        with measure_cpu(bench.pids) as use:
            load = await run_load(bench.address, 1, lambda _, request=request: request, count=_REQUESTS)  # type: ignore[misc]
        label, cpu_ms = f"{name} of {rows:,}, {which} page, p50", use.per(_REQUESTS)
        bench.report.latency(label, load.quantile_ms(0.5), Yard.PROXY, cpu_ms=cpu_ms, remark=load.failures)


async def _reached(bench: Bench, path: str, condition: Callable[[Any], bool], name: str) -> None:
    """Poll until an answer meets the condition, and add the duration."""
    started = time.perf_counter()
    while not condition(await bench.api.call("GET", path)):
        if time.perf_counter() - started > TIMEOUT_S:
            raise TimeoutError(f"{name}: not within {TIMEOUT_S} s")
        await asyncio.sleep(0.5)
    bench.report.plain(name, time.perf_counter() - started, "s")
