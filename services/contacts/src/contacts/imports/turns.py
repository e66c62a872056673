"""Take turns with imports, so that a few large files do not slow everything else down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from contacts.errors import ImportRunning


class ImportTurns:
    """Who may import: one import of each organisation, and `at_once` in all. Further ones wait, without a connection.

    At most `max_waiting` wait, and each for `max_wait_s` seconds at most.
    """

    def __init__(self, *, at_once: int = 2, max_waiting: int = 20, max_wait_s: float = 60.0) -> None:
        self.waiting = 0
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._running = asyncio.Semaphore(at_once)
        self._organisations: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, organisation_id: str, *, may_wait: bool) -> AsyncIterator[float]:
        """Wait for the organisation's turn. Return the time of the event loop at which waiting ends.

        Raises ImportRunning when the wait is too long, or at once without `may_wait` or when too many wait already.
        """
        lock = self._organisations.setdefault(organisation_id, asyncio.Lock())
        is_free = not (lock.locked() or self._running.locked())
        if not is_free and (not may_wait or self.waiting >= self._max_waiting):
            raise ImportRunning
        deadline = asyncio.get_running_loop().time() + self._max_wait_s
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await lock.acquire()
                try:
                    await self._running.acquire()
                except BaseException:
                    lock.release()
                    raise
        except TimeoutError:
            raise ImportRunning from None
        finally:
            self.waiting -= 1
        try:
            yield deadline
        finally:
            self._running.release()
            lock.release()
