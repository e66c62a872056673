"""A small pool of asyncpg connections for single statements.

SQLAlchemy's pool and asyncpg's own cost 100 µs and 50 µs a statement for resets that a single statement does not need:
it leaves nothing on its connection. This pool hands out the connection that was used last.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import asyncpg
from sqlalchemy import URL

from common import metrics
from common.errors import Unavailable

# The connection ended, or is about to. asyncpg raises InternalClientError for a statement on a connection whose server
# said that it ends it, until the end arrives.
BROKEN = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresConnectionError,
    OSError,
)
_IDLE_CHECK_S = 5.0
_WAIT_S = 2.0


class ConnectionPool:
    """At most `size` connections of one role. A connection that failed is closed."""

    def __init__(self, url: URL, application: str, size: int, name: str = "statements") -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._application = application
        self._slots = asyncio.Semaphore(size)
        self._free: deque[tuple[Any, float]] = deque()
        self._in_use = metrics.pool_in_use(application, name, size)

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        """Run one statement in a transaction of its own and return its rows.

        Raises Unavailable when no connection is free within 2 s or the database cannot be reached, and asyncpg's
        errors of the statement itself.
        """
        await self._take_slot()
        self._in_use.inc()
        try:
            return await self._fetch(sql, values)
        finally:
            self._in_use.dec()
            self._slots.release()

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise Unavailable(headers={"Retry-After": "1"}) from None

    async def _fetch(self, sql: str, values: Sequence[Any]) -> list[Any]:
        connection = await self._get()
        try:
            rows: list[Any] = await connection.fetch(sql, *values)
        except BROKEN:
            connection.terminate()
            raise Unavailable(headers={"Retry-After": "1"}) from None
        except asyncpg.PostgresError:
            self._free.append((connection, time.monotonic()))
            raise
        except BaseException:  # cancelled in the middle of the statement, whose answer may still come
            connection.terminate()
            raise
        self._free.append((connection, time.monotonic()))
        return rows

    async def _get(self) -> Any:
        while self._free:
            connection, used_at = self._free.pop()
            if connection.is_closed():
                continue
            if time.monotonic() - used_at < _IDLE_CHECK_S or await _is_alive(connection):
                return connection
        return await self.connect()

    async def connect(self) -> Any:
        """Open a connection outside the pool. Raises Unavailable."""
        try:
            return await asyncpg.connect(
                self._url,
                timeout=5,
                target_session_attrs="read-write",
                server_settings={"application_name": self._application},
                statement_cache_size=200,
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched):
            raise Unavailable(headers={"Retry-After": "1"}) from None

    async def close(self) -> None:
        """Close the free connections."""
        while self._free:
            connection, _ = self._free.pop()
            await connection.close(timeout=2)


async def _is_alive(connection: Any) -> bool:
    """Test a connection that was idle. One that does not answer is closed."""
    try:
        await connection.fetchval("SELECT 1", timeout=2)
    except (*BROKEN, asyncpg.PostgresError, TimeoutError):
        connection.terminate()
        return False
    return True
