"""Wake loops when there is work, so that they need not poll often.

A loop waits for a named event. Commits in the same process set it at once. Commits in another process, such as a row
that the API adds to the outbox, reach the worker by PostgreSQL's NOTIFY on one channel for each service. A NOTIFY costs
a third of a busy transaction's throughput, so it is sent after the commit, in a statement of its own, and at most
every 10 ms. Every loop still polls slowly: a notification may be lost.
"""

import asyncio
from typing import Any

import asyncpg
import structlog

from common.errors import Unavailable
from common.pool import BROKEN, ConnectionPool

log = structlog.get_logger()

_PAUSE_S = 0.01
_RETRY_S = 5.0


class Wakes:
    """The events of one process by name. `notifies`: other processes of the service are woken too."""

    def __init__(self, pool: ConnectionPool, channel: str) -> None:
        self.notifies = True
        self._pool = pool
        self._channel = channel
        self._events: dict[str, list[asyncio.Event]] = {}
        self._pending: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def event(self, name: str) -> asyncio.Event:
        """Return the event that `wake(name)` sets."""
        return self._events.setdefault(name, [asyncio.Event()])[0]

    def add(self, name: str, event: asyncio.Event) -> None:
        """Let `wake(name)` set this event, too."""
        self.event(name)
        self._events[name].append(event)

    def wake(self, *names: str) -> None:
        """Set the events, here and, if `notifies`, in the processes of the service that listen."""
        self.set_here(*names)
        if self.notifies:
            self._pending.update(names)
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        while self._pending:
            names, self._pending = self._pending, set()
            try:
                await self._pool.fetch("SELECT pg_notify($1, $2)", self._channel, ",".join(sorted(names)))
            except (Unavailable, asyncpg.PostgresError) as error:
                log.warning("notification failed", error=type(error).__name__)  # the loops poll
            await asyncio.sleep(_PAUSE_S)

    async def listen(self, stopping: asyncio.Event) -> None:
        """Set the events that other processes name, until `stopping` is set. Reconnects when the connection ends."""
        while not stopping.is_set():
            try:
                connection = await self._pool.connect()
            except Unavailable:
                await _pause(stopping, _RETRY_S)
                continue
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _, ended=ended: ended.set())
            try:
                await connection.add_listener(self._channel, self._on_notification)
                self.set_here(*self._events)  # notifications of the time without a connection are lost
                await _wait_for_first(stopping, ended)
            except (*BROKEN, asyncpg.PostgresError) as error:
                log.warning("wake listener disconnected", error=type(error).__name__)
            finally:
                connection.terminate()

    def _on_notification(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        self.set_here(*str(payload).split(","))

    def set_here(self, *names: str) -> None:
        """Set the events in this process only."""
        for name in names:
            self.event(name).set()
            for event in self._events[name][1:]:
                event.set()

    async def close(self) -> None:
        """Send what is pending."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass


async def _wait_for_first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
