"""Periodic work: a step runs again at once while it finds something to do, else after a pause."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger()

_MAX_BACK_OFF_S = 30.0


@dataclass
class Loop:
    """A step that repeats. `step` returns True when there may be more to do at once.

    Otherwise the loop pauses for `every_s` seconds, or for the shorter time in seconds that `step` returns. Setting
    `wake` ends the pause early. `gather_s` is a short wait after a wake-up, so that one step finds the work of several
    wake-ups.
    """

    name: str
    step: Callable[[], Awaitable[bool | float]]
    every_s: float
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    gather_s: float = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set. A failed step is logged and retried after a growing pause."""
        failures = 0
        while not stopping.is_set():
            self.wake.clear()
            try:
                result = await self.step()
                failures = 0
            except Exception as error:
                failures += 1
                log.error("loop failed", loop=self.name, failures=failures, error=repr(error)[:500])
                result = False
            if result is not True:
                await self._pause(result or None, failures, stopping)

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
        if self.gather_s and self.wake.is_set():
            await asyncio.sleep(self.gather_s)
