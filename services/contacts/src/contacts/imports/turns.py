"""Take turns with imports, so that a few files do not slow everything else down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class NoTurn(Exception):
    """Other imports are running: one of the organisation, or many."""


class ImportTurns:
    """Who may import now: one import of each organisation, and `at_once` in all. Others wait without a connection.

    At most `max_waiting` wait, and each for `max_wait_s` seconds at most. An import may take `max_import_s`. `storing`
    is for the requests that store their file for the worker, each of which needs memory for the whole file.
    """

    def __init__(
        self, *, at_once: int = 2, max_waiting: int = 20, max_wait_s: float = 5.0, max_import_s: float = 20.0
    ) -> None:
        self.waiting = 0
        self.max_import_s = max_import_s
        self.storing = asyncio.Semaphore(at_once)
        self._max_waiting = max_waiting
        self.max_wait_s = max_wait_s
        self._running = asyncio.Semaphore(at_once)
        self._organisations: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, organisation_id: str) -> AsyncIterator[float]:
        """Wait for the organisation's turn. Return the time of the event loop at which waiting ends.

        Raises NoTurn when the wait is too long, or at once when too many wait already.
        """
        lock = self._organisations.setdefault(organisation_id, asyncio.Lock())
        is_free = not (lock.locked() or self._running.locked())
        if not is_free and self.waiting >= self._max_waiting:
            raise NoTurn
        deadline = asyncio.get_running_loop().time() + self.max_wait_s
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
            raise NoTurn from None
        finally:
            self.waiting -= 1
        try:
            yield deadline
        finally:
            self._running.release()
            lock.release()
