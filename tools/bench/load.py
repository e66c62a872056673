"""Load over HTTP, limited by count or time: every worker sends one request after another."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass
class Load:
    """The measured results of a series of requests."""

    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the latencies in milliseconds."""
        ordered = sorted(self.latencies_s) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


async def run_load(
    session: aiohttp.ClientSession,
    connections: int,
    request: Callable[[int], dict[str, Any]],
    *,
    seconds: float | None = None,
    count: int | None = None,
) -> Load:
    """Keep `connections` requests in flight for `seconds`, or until `count` are done.

    `request(n)` returns the arguments of aiohttp's `session.request` for the n-th request, counted from 0.
    """
    load = Load()
    numbers = iter(range(count if count is not None else 10_000_000))
    started = time.perf_counter()

    async def work() -> None:
        for number in numbers:
            if seconds is not None and time.perf_counter() - started > seconds:
                return
            sent_at = time.perf_counter()
            async with session.request(**request(number)) as answer:
                await answer.read()
            load.latencies_s.append(time.perf_counter() - sent_at)
            load.statuses[answer.status] = load.statuses.get(answer.status, 0) + 1

    await asyncio.gather(*(work() for _ in range(connections)))
    load.seconds = time.perf_counter() - started
    return load
