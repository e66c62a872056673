"""Bound the requests that the services work on at a time, so that no organisation and no service stops the others.

Each organisation has a few slots for each service. Its further requests wait here, where a waiting request costs
almost nothing, and requests beyond those are refused at once. So an organisation that sends many requests at once
waits for itself, and the requests of others find a short line. A service that does not answer fills only the slots of
requests for itself.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from common.errors import Throttled, Unavailable

_MAX_WAIT_S = 10.0
_MAX_IN_SERVICE = 800  # the proxy has 1,000 connections to each service, also for requests without an organisation
_BUSY = "Your organisation has too many requests at once. Try again in a moment."


class Size(NamedTuple):
    """How many requests of an organisation run at a time, and how many wait for that."""

    running: int
    waiting: int


class Lane(NamedTuple):
    """Requests that share slots: those of an organisation, for a service, of a kind."""

    organisation: str
    service: str
    kind: str


class _Line:
    """The running and the waiting requests of a lane."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class Slots:
    """The slots of one gateway process. `running` is the size of an ordinary lane, whose kind is `""`."""

    def __init__(self, running: int, *, in_service: int = _MAX_IN_SERVICE) -> None:
        self._sizes = {"": Size(running, 100), "import": Size(2, 20), "waiting send": Size(100, 0)}
        self._in_service = in_service
        self._lines: dict[Lane, _Line] = {}
        self._running: dict[str, int] = {}

    @asynccontextmanager
    async def take(self, lane: Lane) -> AsyncIterator[None]:
        """Hold a slot. Waits for one for 10 s at most.

        Raises Throttled when too many requests of the lane wait, and Unavailable when the service has too many.
        """
        if self._running.get(lane.service, 0) >= self._in_service:
            raise Unavailable(headers={"Retry-After": "1"})
        line = self._lines.setdefault(lane, _Line())
        size = self._sizes[lane.kind]
        if line.running < size.running:
            line.running += 1
        elif len(line.waiting) < size.waiting:
            await self._wait(lane, line)
        else:
            raise Throttled(_BUSY, headers={"Retry-After": "1"})
        self._running[lane.service] = self._running.get(lane.service, 0) + 1
        try:
            yield
        finally:
            self._running[lane.service] -= 1
            self._release(lane, line)

    async def _wait(self, lane: Lane, line: _Line) -> None:
        turn = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        try:
            async with asyncio.timeout(_MAX_WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release(lane, line)  # the slot was handed over in the same moment
            elif turn in line.waiting:
                line.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Throttled(_BUSY, headers={"Retry-After": "1"}) from None
            raise

    def _release(self, lane: Lane, line: _Line) -> None:
        """Hand the slot to the request that waits longest."""
        while line.waiting:
            turn = line.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        line.running -= 1
        if line.running == 0:
            self._lines.pop(lane, None)
