"""How the API's lists grow: the same requests in an organisation of 10,000 contacts and in one of 200,000."""

from datetime import UTC, datetime, timedelta

import asyncpg

from tools.bench.bench import Bench
from tools.bench.cpu import measure_cpu
from tools.bench.growth_rows import COMMON, FREQUENT_PHONE, RARE, Filled, fill, vacuum
from tools.bench.load import Load, run_load
from tools.bench.requests import ZONE
from tools.bench.yardsticks import Yard

_SMALL, _LARGE = 10_000, 200_000
_SMALL_SCHEDULES, _LARGE_SCHEDULES, _FULL_SCHEDULES = 10_000, 200_000, 2_000_000
_REQUESTS = 50
_PAGE = 50


def paths(filled: Filled) -> dict[str, str]:
    """Return name → path of the lists that must not grow with the organisation."""
    pages = filled.contacts // _PAGE
    day = datetime.now(UTC).astimezone(ZONE).date() - timedelta(days=10)
    phone = FREQUENT_PHONE.replace("+61", "0")
    return {
        "contacts, first page": "/api/contacts/",
        "contacts, middle page": f"/api/contacts/?page={pages // 2}",
        "contacts, last page": f"/api/contacts/?page={pages}",
        "search of a rare word": f"/api/contacts/?search={RARE}",
        "search of a common word": f"/api/contacts/?search={COMMON}",
        "schedules of a day": f"/api/schedules/?date={day}",
        "batch, first page": f"/api/group-schedules/{filled.batch_id}/",
        "batch, middle page": f"/api/group-schedules/{filled.batch_id}/?page={pages // 2}",
        "messages, first page": "/api/messages/",
        "messages of a phone": f"/api/messages/?phone={phone}",
        "failed messages": "/api/messages/?status=failed",
        "delivered messages": "/api/messages/?status=delivered",
    }


async def growth(bench: Bench) -> None:
    """Write both organisations, and compare the medians of the same requests."""
    small, large = bench.of("org_growth_small"), bench.of("org_growth_large")
    schedules = bench.size(_FULL_SCHEDULES if bench.shared.growth else _LARGE_SCHEDULES)
    connection = await asyncpg.connect(bench.stack.environment["DATABASE_URL"])
    try:
        small_rows = await fill(
            connection, small.organisation, contacts=bench.size(_SMALL), schedules=bench.size(_SMALL_SCHEDULES)
        )
        large_rows = await fill(connection, large.organisation, contacts=bench.size(_LARGE), schedules=schedules)
        await vacuum(connection)
    finally:
        await connection.close()
    bench.report.plain("large organisation, contacts", large_rows.contacts, "rows")
    bench.report.plain("large organisation, schedules and messages", schedules, "rows each")
    large_paths = paths(large_rows)
    for name, path in paths(small_rows).items():
        before = await _measure(small, f"{name}, small", path)
        after = await _measure(large, f"{name}, large", large_paths[name])
        ratio = after.quantile_ms(0.5) / max(before.quantile_ms(0.5), 1e-9)
        bench.report.plain(f"{name}, p50 large to small", ratio, "times")


async def _measure(bench: Bench, name: str, path: str) -> Load:
    """Measure one list with requests one after another. The first visit is measured apart."""
    request = bench.get(path)
    first = await run_load(bench.address, 1, lambda _: request, count=1)
    with measure_cpu(bench.pids) as use:
        load = await run_load(bench.address, 1, lambda _: request, count=_REQUESTS)
    remark = ", ".join(filter(None, (f"first visit {first.quantile_ms(0.5):.0f} ms", load.failures)))
    bench.report.latency(f"{name}, p50", load.quantile_ms(0.5), Yard.PROXY, cpu_ms=use.per(_REQUESTS), remark=remark)
    return load
