"""Yardsticks: what the machine can do at best, measured in the same run, so that figures of different runs compare.

A rate is divided by the rate of a yardstick, a latency by its latency, and CPU time by its CPU time.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from tools.bench.cpu import GENERATOR, Roots, measure_cpu
from tools.bench.load import Address, Load, quantile, run_load
from tools.embedded.processes import accepts_connections, free_port, request_death_signal

CONNECTIONS = 32
_COPIED_ROWS, _COPIES = 100_000, 5
_START_S = 20.0


class Yard(StrEnum):
    """The names of the yardsticks."""

    ROUND_TRIP = "round trip"
    """`SELECT 1` with asyncpg, one after another."""
    ROUND_TRIPS_32 = "round trip at 32"
    """`SELECT 1` over 32 connections at the same time."""
    ANSWER = "answer"
    """12 kB from uvicorn, one request after another."""
    ANSWERS_32 = "answer at 32"
    """12 kB from uvicorn, over 32 connections."""
    PROXY = "proxy"
    """The same through aiohttp, one request after another."""
    PROXY_32 = "proxy at 32"
    """The same through aiohttp, over 32 connections."""
    COPY = "COPY"
    """Rows that are copied into a temporary table."""


@dataclass(frozen=True)
class Yardstick:
    """A measured yardstick. CPU-ms are those of all its processes. COPY has no latencies."""

    per_second: float
    cpu_ms: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    def as_json(self) -> dict[str, float]:
        """Return the values for the history."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


async def measure_yardsticks(database_url: str, postgres: Roots, seconds: float) -> dict[Yard, Yardstick]:
    """Measure all yardsticks, most of them for `seconds`. `postgres` names the process of PostgreSQL."""
    found = {
        Yard.ROUND_TRIP: await _round_trips(database_url, postgres, connections=1, seconds=seconds),
        Yard.ROUND_TRIPS_32: await _round_trips(database_url, postgres, connections=CONNECTIONS, seconds=seconds),
        Yard.COPY: await _copy(database_url, postgres),
    }
    async with _bare_server("answer") as (origin, answering):
        found[Yard.ANSWER] = await _answers(origin, answering, connections=1, seconds=seconds)
        found[Yard.ANSWERS_32] = await _answers(origin, answering, connections=CONNECTIONS, seconds=seconds)
        async with _bare_server("proxy", f"http://{origin.host}:{origin.port}") as (proxy, forwarding):
            both = {**answering, **forwarding}
            found[Yard.PROXY] = await _answers(proxy, both, connections=1, seconds=seconds)
            found[Yard.PROXY_32] = await _answers(proxy, both, connections=CONNECTIONS, seconds=seconds)
    return {yard: found[yard] for yard in Yard}


async def _round_trips(database_url: str, postgres: Roots, *, connections: int, seconds: float) -> Yardstick:
    latencies: list[float] = []

    async def work(connection: Any) -> None:
        while (sent_at := time.perf_counter()) < ends_at:
            await connection.fetchval("SELECT 1")
            latencies.append(time.perf_counter() - sent_at)

    opened = [await asyncpg.connect(database_url) for _ in range(connections)]
    try:
        for connection in opened:
            await connection.fetchval("SELECT 1")  # it is prepared once
        started = time.perf_counter()
        ends_at = started + seconds
        with measure_cpu(postgres) as use:
            await asyncio.gather(*(work(connection) for connection in opened))
    finally:
        await asyncio.gather(*(connection.close() for connection in opened))
    return Yardstick(
        per_second=len(latencies) / use.wall_s,
        cpu_ms=sum(use.per(len(latencies)).values()),
        p50_ms=quantile(latencies, 0.5) * 1000,
        p99_ms=quantile(latencies, 0.99) * 1000,
    )


async def _copy(database_url: str, postgres: Roots) -> Yardstick:
    rows = [(number, f"First{number}", f"+6144{number:07d}") for number in range(_COPIED_ROWS)]
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE TEMPORARY TABLE bench_copy (id int, name text, phone text)")
        with measure_cpu(postgres) as use:
            for _ in range(_COPIES):
                await connection.copy_records_to_table("bench_copy", records=rows, columns=["id", "name", "phone"])
    finally:
        await connection.close()
    copied = _COPIED_ROWS * _COPIES
    return Yardstick(per_second=copied / use.wall_s, cpu_ms=sum(use.per(copied).values()))


async def _answers(address: Address, servers: dict[str, int], *, connections: int, seconds: float) -> Yardstick:
    request = address.render("GET", "/", {})
    await run_load(address, connections, lambda _: request, seconds=seconds / 5)
    with measure_cpu(lambda: servers) as use:
        load: Load = await run_load(address, connections, lambda _: request, seconds=seconds)
    cpu_ms = use.per(load.successes)
    return Yardstick(
        per_second=load.per_second,
        cpu_ms=sum(cpu_ms.values()) - cpu_ms[GENERATOR],
        p50_ms=load.quantile_ms(0.5),
        p99_ms=load.quantile_ms(0.99),
    )


@asynccontextmanager
async def _bare_server(kind: str, *arguments: str) -> AsyncIterator[tuple[Address, dict[str, int]]]:
    """Run a server of tools/bench/bare_servers.py. Yields its address, and its name and process id."""
    address = Address("127.0.0.1", free_port())
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.bare_servers", kind, str(address.port), *arguments],
        stdin=subprocess.DEVNULL,
        env=dict(os.environ),
        preexec_fn=request_death_signal(signal.SIGKILL),  # noqa: PLW1509 (forked by the main thread)
    )
    try:
        deadline = time.monotonic() + _START_S
        while not accepts_connections(address.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the bare server {kind!r} did not start: run it by hand to see why")
            await asyncio.sleep(0.05)
        yield address, {kind: process.pid}
    finally:
        process.kill()
        process.wait()
