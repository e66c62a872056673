"""Bound the requests that the services work on at a time, so that no organisation and no service stops the others.

Each organisation has a few slots for each service, and fewer while other organisations have requests, too. Its further
requests wait here, where a waiting request costs almost nothing, and requests beyond those are refused at once. So an
organisation that sends many requests at once delays itself, and hardly the others. A service that does not answer fills
only the slots of requests for itself. Imports and waiting sends have slots of their own, always the same number.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from common.errors import Throttled, Unavailable

_MAX_WAIT_S = 10.0
_ACTIVE_S = 1.0  # an organisation counts as active for so long after a request
_MAX_IN_SERVICE = 800  # the proxy has 1,000 connections to each service, also for requests without an organisation
_BUSY = "Your organisation has too many requests at once. Try again in a moment."


class Size(NamedTuple):
    """How many requests of an organisation run at a time, and how many wait for that.

    `contended` is the number while another organisation has had a request within a second, `alone` without one.
    """

    alone: int
    contended: int
    waiting: int


class Lane(NamedTuple):
    """Requests that share slots: those of an organisation, for a service, of a kind."""

    organisation: str
    service: str
    kind: str


class _Queue:
    """The running and the waiting requests of a lane."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class _Activity:
    """The times of the last requests: enough to know whether an organisation is the only active one."""

    def __init__(self, active_s: float, clock: Callable[[], float]) -> None:
        self._active_s = active_s
        self._clock = clock
        self._organisation = ""
        self._time = self._time_of_others = float("-inf")

    def add(self, organisation: str) -> None:
        """Note a request of the organisation."""
        if organisation != self._organisation:
            self._organisation, self._time_of_others = organisation, self._time
        self._time = self._clock()

    def is_alone(self, organisation: str) -> bool:
        """Return whether no other organisation has had a request lately."""
        others = self._time_of_others if organisation == self._organisation else self._time
        return self._clock() - others > self._active_s


class Slots:
    """The slots of one gateway process. `alone` and `contended` are the sizes of an ordinary lane, of kind `""`."""

    def __init__(
        self,
        alone: int,
        contended: int,
        *,
        in_service: int = _MAX_IN_SERVICE,
        active_s: float = _ACTIVE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sizes = {
            "": Size(alone, min(alone, contended), 100),
            "import": Size(2, 2, 20),
            "waiting send": Size(100, 100, 0),
        }
        self._in_service = in_service
        self._queues: dict[Lane, _Queue] = {}
        self._running: dict[str, int] = defaultdict(int)
        self._active_s = active_s
        self._activity = _Activity(active_s, clock)

    @asynccontextmanager
    async def take(self, lane: Lane) -> AsyncIterator[None]:
        """Hold a slot. Waits for one for 10 s at most.

        Raises Throttled when too many requests of the lane wait, and Unavailable when the service has too many.
        """
        if self._running[lane.service] >= self._in_service:
            raise Unavailable(headers={"Retry-After": "1"})
        self._activity.add(lane.organisation)
        queue = self._queues.setdefault(lane, _Queue())
        if not queue.waiting and queue.running < self._limit(lane):
            self._begin(lane, queue)
        elif len(queue.waiting) < self._sizes[lane.kind].waiting:
            await self._wait(lane, queue)
        else:
            raise Throttled(_BUSY, headers={"Retry-After": "1"})
        try:
            yield
        finally:
            self._release(lane, queue)

    def _limit(self, lane: Lane) -> int:
        size = self._sizes[lane.kind]
        return size.alone if self._activity.is_alone(lane.organisation) else size.contended

    async def _wait(self, lane: Lane, queue: _Queue) -> None:
        turn = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        self._hand_out(lane, queue)
        try:
            async with asyncio.timeout(_MAX_WAIT_S):
                # Nothing else wakes the queue when the last of the others is not active any more.
                while not turn.done():
                    await asyncio.wait([turn], timeout=self._active_s)
                    self._hand_out(lane, queue)
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release(lane, queue)  # the slot was handed over in the same moment
            elif turn in queue.waiting:
                queue.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Throttled(_BUSY, headers={"Retry-After": "1"}) from None
            raise

    def _release(self, lane: Lane, queue: _Queue) -> None:
        queue.running -= 1
        self._running[lane.service] -= 1
        self._hand_out(lane, queue)
        if queue.running == 0:
            self._queues.pop(lane, None)

    def _hand_out(self, lane: Lane, queue: _Queue) -> None:
        """Hand free slots to the requests that wait longest.

        While the service has too many requests, an organisation continues with one.
        """
        limit = self._limit(lane)
        while queue.waiting and queue.running < (limit if self._running[lane.service] < self._in_service else 1):
            turn = queue.waiting.popleft()
            if not turn.done():
                self._begin(lane, queue)
                turn.set_result(None)

    def _begin(self, lane: Lane, queue: _Queue) -> None:
        queue.running += 1
        self._running[lane.service] += 1
