"""Periodic work: a step runs again at once while it finds something to do, else after a pause."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

import structlog

from common import metrics
from common.errors import Unavailable

log = structlog.get_logger()

# Work continues within 5 s of the end of an outage of the database or the broker.
_MAX_BACK_OFF_S = 5.0
_current: ContextVar["Loop | None"] = ContextVar("current_loop", default=None)


def report_rows(rows: int) -> None:
    """Add the number of rows that a step handled to the metrics of the loop that runs it. Outside a loop, do nothing.

    Call it after the commit.
    """
    loop = _current.get()
    if loop is not None and rows:
        metrics.LOOP_ROWS.labels(loop.service, loop.name).observe(rows)


class MinInterval:
    """Keeps a minimum interval between small rounds of work.

    A round costs nearly the same for one message and for many. So the first message after a quiet time is handled at
    once, and under load each round handles the messages of one interval.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    async def wait(self) -> None:
        """Wait until the interval since the last round is over, and begin the next."""
        clock = asyncio.get_running_loop().time
        if (left := self._next - clock()) > 0:
            await asyncio.sleep(left)
        self._next = clock() + self._seconds


def _describe(error: Exception) -> str:
    """Return an error as text. `Unavailable` is worded for clients, so its cause is returned, if it has one."""
    cause = (error.__cause__ or error.__context__) if isinstance(error, Unavailable) else None
    return repr(cause or error)[:500]


@dataclass
class Loop:
    """A step that repeats. `step` returns True when there may be more to do at once.

    Otherwise the loop pauses for `every_s` seconds, or for the shorter time in seconds that `step` returns. Setting
    `wake` ends the pause early. `min_interval_s` is the minimum time between the beginnings of two steps when the loop
    is woken. `step_since` is the time (`time.monotonic`) since when a step runs, None between steps. `service` is the
    name of the service in the metrics, which the worker sets.
    """

    name: str
    step: Callable[[], Awaitable[bool | float]]
    every_s: float
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    min_interval_s: float = 0.0
    step_since: float | None = field(default=None, init=False)
    service: str = field(default="", init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set. A failed step is retried after a growing pause.

        The first failure is logged, another kind of error too, and then the first success.
        """
        failures, logged = 0, ""
        interval = MinInterval(self.min_interval_s)
        _current.set(self)
        step_times = metrics.LOOP_SECONDS.labels(self.service, self.name)
        step_failures = metrics.LOOP_FAILURES.labels(self.service, self.name)
        while not stopping.is_set():
            self.wake.clear()
            self.step_since = time.monotonic()
            try:
                result = await self.step()
                if failures:
                    log.warning("loop recovered", loop=self.name, failures=failures)
                    failures, logged = 0, ""
            except Exception as error:
                failures += 1
                step_failures.inc()
                if logged != type(error).__name__:
                    logged = type(error).__name__
                    log.error("loop failed", loop=self.name, failures=failures, error=_describe(error))
                result = False
            finally:
                step_times.observe(time.monotonic() - self.step_since)
                self.step_since = None
            if result is not True:
                await self._pause(result or None, failures, stopping)
                if self.wake.is_set():
                    await interval.wait()

    async def _pause(self, wanted_s: float | None, failures: int, stopping: asyncio.Event) -> None:
        pause = self.every_s * random.uniform(0.8, 1.2)
        if wanted_s is not None:
            pause = min(pause, wanted_s)
        if failures:
            pause = min(_MAX_BACK_OFF_S, max(pause, 0.2 * 2 ** min(failures, 8))) * random.uniform(0.5, 1.0)
        waits = [asyncio.ensure_future(stopping.wait())]
        if not failures:
            waits.append(asyncio.ensure_future(self.wake.wait()))
        await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
